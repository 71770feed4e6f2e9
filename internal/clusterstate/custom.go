package clusterstate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// Custom is a custom resource. Of its metadata the names are decoded, and nothing of the rest.
type Custom struct {
	metav1.PartialObjectMetadata

	// Raw is the whole object. It is valid until the reduction returns, and must not be kept.
	Raw jsontext.Value
}

// DeepCopyObject returns a copy.
func (c *Custom) DeepCopyObject() runtime.Object {
	copied := &Custom{Raw: c.Raw.Clone()}
	c.DeepCopyInto(&copied.PartialObjectMetadata)
	return copied
}

// Members yields the members of a JSON object without copying the values. It ends at anything that is not valid JSON.
func Members(object jsontext.Value) iter.Seq2[string, jsontext.Value] {
	return func(yield func(string, jsontext.Value) bool) {
		_ = eachMember(object, func(name string, value jsontext.Value) error {
			if !yield(name, value) {
				return errStop
			}
			return nil
		})
	}
}

// Elements yields the elements of a JSON array without copying them. It ends at anything that is not valid JSON.
func Elements(array jsontext.Value) iter.Seq[jsontext.Value] {
	return func(yield func(jsontext.Value) bool) {
		_ = eachElement(array, func(value jsontext.Value) error {
			if !yield(value) {
				return errStop
			}
			return nil
		})
	}
}

var (
	errStop   = errors.New("stop")
	errNoJSON = errors.New("not the JSON that was expected")
)

// decoder reads a value in place. The API server has checked it: a name that occurs twice costs memory to look for.
func decoder(value jsontext.Value) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(value), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

func eachMember(object jsontext.Value, each func(name string, value jsontext.Value) error) error {
	dec := decoder(object)
	if dec.PeekKind() != jsontext.KindBeginObject {
		return errNoJSON
	}
	_, err := dec.ReadToken()
	for err == nil && dec.PeekKind() != jsontext.KindEndObject {
		var token jsontext.Token
		if token, err = dec.ReadToken(); err != nil {
			break
		}
		name := token.String()
		var value jsontext.Value
		if value, err = dec.ReadValue(); err == nil {
			err = each(name, value)
		}
	}
	return err
}

func eachElement(array jsontext.Value, each func(jsontext.Value) error) error {
	dec := decoder(array)
	if dec.PeekKind() != jsontext.KindBeginArray {
		return errNoJSON
	}
	_, err := dec.ReadToken()
	for err == nil && dec.PeekKind() != jsontext.KindEndArray {
		var value jsontext.Value
		if value, err = dec.ReadValue(); err == nil {
			err = each(value)
		}
	}
	return err
}

// names are the fields of the metadata that are decoded.
type names struct {
	Name              string         `json:"name"`
	Namespace         string         `json:"namespace"`
	UID               types.UID      `json:"uid"`
	ResourceVersion   string         `json:"resourceVersion"`
	Continue          string         `json:"continue"`
	CreationTimestamp jsontext.Value `json:"creationTimestamp"`
	DeletionTimestamp jsontext.Value `json:"deletionTimestamp"`
}

// customOf reads an object's names.
func customOf(raw jsontext.Value) (*Custom, error) {
	custom := &Custom{Raw: raw}
	err := eachMember(raw, func(name string, value jsontext.Value) error {
		if name != "metadata" {
			return nil
		}
		read, err := namesIn(value)
		custom.ObjectMeta = metav1.ObjectMeta{Name: read.Name, Namespace: read.Namespace, UID: read.UID, ResourceVersion: read.ResourceVersion}
		if at := timeOf(read.CreationTimestamp); at != nil {
			custom.CreationTimestamp = *at
		}
		custom.DeletionTimestamp = timeOf(read.DeletionTimestamp)
		return err
	})
	return custom, err
}

func namesIn(metadata jsontext.Value) (read names, err error) {
	if err := json.Unmarshal(metadata, &read, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return names{}, fmt.Errorf("read metadata: %w", err)
	}
	return read, nil
}

// timeOf reads a time; nil if there is none.
func timeOf(value jsontext.Value) *metav1.Time {
	if value.Kind() != jsontext.KindString {
		return nil
	}
	at := new(metav1.Time)
	if at.UnmarshalJSON(value) != nil {
		return nil
	}
	return at
}

// customClient lists and watches a custom resource.
type customClient struct {
	client    rest.Interface
	resource  schema.GroupVersionResource
	namespace string
}

func (c customClient) request(options *metav1.ListOptions) *rest.Request {
	path := []string{"/apis", c.resource.Group, c.resource.Version}
	if c.namespace != "" {
		path = append(path, "namespaces", c.namespace)
	}
	return c.client.Get().AbsPath(append(path, c.resource.Resource)...).SetHeader("Accept", runtime.ContentTypeJSON).
		SpecificallyVersionedParams(options, scheme.ParameterCodec, schema.GroupVersion{Version: "v1"})
}

func (c customClient) list(ctx context.Context, options metav1.ListOptions) (*page, error) {
	result := c.request(&options).Do(ctx)
	if err := result.Error(); err != nil {
		return nil, err
	}
	body, err := result.Raw()
	if err != nil {
		return nil, err
	}
	return customPage(body)
}

// customPage reads where a list continues; its objects are read one by one.
func customPage(body jsontext.Value) (*page, error) {
	found := &page{}
	var items jsontext.Value
	err := eachMember(body, func(name string, value jsontext.Value) error {
		switch name {
		case "metadata":
			read, err := namesIn(value)
			found.ListMeta = metav1.ListMeta{ResourceVersion: read.ResourceVersion, Continue: read.Continue}
			return err
		case "items":
			items = value
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read a list: %w", err)
	}
	found.each = func(each func(runtime.Object) error) error {
		if items.Kind() != jsontext.KindBeginArray {
			return nil
		}
		return eachElement(items, func(raw jsontext.Value) error {
			object, err := customOf(raw)
			if err != nil {
				return err
			}
			return each(object)
		})
	}
	return found, nil
}

func (c customClient) watch(ctx context.Context, options metav1.ListOptions, reduce through) (watch.Interface, error) {
	options.Watch = true
	request := c.request(&options)
	if options.TimeoutSeconds != nil {
		request = request.Timeout(time.Duration(*options.TimeoutSeconds) * time.Second)
	}
	body, err := request.Stream(ctx)
	if err != nil {
		return nil, err
	}
	return newEvents(body, reduce), nil
}
