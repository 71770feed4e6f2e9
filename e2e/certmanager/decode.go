package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cert-manager/cert-manager/pkg/api"
	"github.com/cert-manager/cert-manager/pkg/apis/certmanager"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	kyaml "sigs.k8s.io/yaml"
)

// decode decodes the objects of cert-manager's kinds in a stream of manifests, with every field known, and prints the kind and
// the name of each.
func decode(from io.Reader, to io.Writer) error {
	decoder := serializer.NewCodecFactory(api.Scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(from))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var meta metav1.PartialObjectMetadata
		if err := kyaml.Unmarshal(document, &meta); err != nil {
			return err
		}
		if !strings.HasPrefix(meta.APIVersion, certmanager.GroupName+"/") {
			continue
		}
		if _, _, err := decoder.Decode(document, nil, nil); err != nil {
			return fmt.Errorf("%s %s: %w", meta.Kind, meta.Name, err)
		}
		if _, err := fmt.Fprintf(to, "%s/%s\n", meta.Kind, meta.Name); err != nil {
			return err
		}
	}
}
