package manifest_test

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/manifest"
)

// foreign are documents that hold no pod.
var foreign = []string{
	"apiVersion:   v1\nkind: ConfigMap   # odd\ndata: {a:   'b',}\n",
	"# nothing but this\n",
	"\n\n",
	"kind: Deployment\napiVersion: acme.example/v1\nspec:\n   template: {spec: {}}\n",
	"{\"kind\":\"Secret\",   \"apiVersion\":\"v1\"}\n",
	"- a\n-   b\n",
	"apiVersion: v1\nkind: ConfigMap\ndata:\n  a: 1\n  a: 2\n",
	"apiVersion: v1\r\nkind: Namespace\r\n",
}

// TestRewriteProperty changes generated streams at random and holds that every change is made, that a document without
// a pod keeps its bytes, and that no stream is refused.
func TestRewriteProperty(t *testing.T) {
	pods := podDocuments(t)
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		var docs []string
		for range 1 + r.IntN(4) {
			docs = append(docs, pick(r, foreign), pick(r, pods))
		}
		src := []byte("---\n" + strings.Join(docs, "---\n"))
		got := checkRewrite(t, src, seed, true)
		for _, doc := range docs {
			if slices.Contains(foreign, doc) && !bytes.Contains(got, []byte("---\n"+doc+"---\n")) {
				t.Fatalf("seed %d: changed the document %q", seed, doc)
			}
		}
	}
}

// FuzzStream holds, for any text: it is refused, or with no change it keeps its bytes, and with changes it holds exactly
// these, in as many objects as before.
func FuzzStream(f *testing.F) {
	for _, doc := range append(podDocuments(f), foreign...) {
		f.Add([]byte(doc), uint64(1))
		f.Add([]byte(doc+"---\n"+doc+"...\n"+doc), uint64(2))
	}
	f.Fuzz(func(t *testing.T, src []byte, seed uint64) {
		checkRewrite(t, src, seed, false)
	})
}

// podDocuments returns the golden tests' inputs that are one document each.
func podDocuments(tb testing.TB) []string {
	tb.Helper()
	inputs, err := filepath.Glob("testdata/rewrite/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		tb.Fatalf("no inputs: %v", err)
	}
	var docs []string
	for _, input := range inputs {
		for doc := range strings.SplitSeq(string(read(tb, input)), "\n---") {
			if strings.Contains(doc, "spec") && !strings.Contains(doc, "%YAML") && strings.HasSuffix(doc, "\n") {
				docs = append(docs, doc)
			}
		}
	}
	return docs
}

// checkRewrite makes the changes that a seed stands for, compares the result, and returns it.
func checkRewrite(t *testing.T, src []byte, seed uint64, wellFormed bool) []byte {
	t.Helper()
	same, err := manifest.Rewrite(src, func(manifest.Object) ([]inject.Operation, error) { return nil, nil })
	if err == nil && !bytes.Equal(same, src) {
		t.Fatalf("with no change %q became %q", src, same)
	}
	r := rand.New(rand.NewPCG(seed, 1))
	var want [][]byte
	got, err := manifest.Rewrite(src, func(object manifest.Object) ([]inject.Operation, error) {
		ops, changed := change(t, r, object.Pod)
		want = append(want, changed)
		return ops, nil
	})
	if err != nil {
		if wellFormed {
			t.Fatalf("seed %d: %v\n%s", seed, err, src)
		}
		return nil
	}
	if len(want) == 0 && !bytes.Equal(got, src) {
		t.Fatalf("without a pod %q became %q", src, got)
	}
	left, err := manifest.Pods(got)
	if err != nil {
		t.Fatalf("%q became %q, which is refused: %v", src, got, err)
	}
	comparePods(t, want, left, src, got)
	compareObjects(t, src, got)
	return got
}

func comparePods(t *testing.T, want [][]byte, left []manifest.Object, src, got []byte) {
	t.Helper()
	if len(want) != len(left) {
		t.Fatalf("%d pods became %d: %q became %q", len(want), len(left), src, got)
	}
	for i := range want {
		if diff := cmp.Diff(decode(t, want[i]), decode(t, left[i].Pod)); diff != "" {
			t.Fatalf("pod %d (-want +got):\n%s\nof\n%s\nwhich became\n%s", i, diff, src, got)
		}
	}
}

// compareObjects compares how many objects two streams hold, and those that hold no pod.
func compareObjects(t *testing.T, src, got []byte) {
	t.Helper()
	before, errBefore := manifest.Objects(src)
	after, errAfter := manifest.Objects(got)
	if errBefore != nil || errAfter != nil || len(before) != len(after) {
		t.Fatalf("%d objects (%v) became %d (%v):\n%s", len(before), errBefore, len(after), errAfter, got)
	}
	for i := range before {
		object, _ := decode(t, before[i]).(map[string]any)
		if !slices.Contains(podKinds, fmt.Sprint(object["kind"])) && !cmp.Equal(any(object), decode(t, after[i])) {
			t.Fatalf("object %d: %s became %s", i, before[i], after[i])
		}
	}
}

var podKinds = []string{
	"Pod", "PodTemplate", "ReplicationController", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob",
}

func decode(t *testing.T, text []byte) any {
	t.Helper()
	decoder := stdjson.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}

// change makes operations at random places of a pod, and the pod that they lead to.
func change(t *testing.T, r *rand.Rand, pod []byte) ([]inject.Operation, []byte) {
	t.Helper()
	var ops []inject.Operation
	for range r.IntN(6) {
		fields, _ := decode(t, pod).(map[string]any)
		part := pick(r, []string{"metadata", "spec"})
		op := inject.Operation{Op: "add", Path: "/" + part, Value: map[string]any{"labels": anything(r, 1)}}
		if fields[part] != nil {
			op = operation(r, fields[part], "/"+part)
		}
		text, err := stdjson.Marshal([]inject.Operation{op})
		if err != nil {
			t.Fatal(err)
		}
		patch, err := jsonpatch.DecodePatch(text)
		if err != nil {
			t.Fatal(err)
		}
		changed, err := patch.Apply(pod)
		if err != nil {
			continue // this library cannot add below a null, for instance
		}
		ops, pod = append(ops, op), changed
	}
	return ops, pod
}

// operation goes down from a value at random, and returns an operation there.
func operation(r *rand.Rand, value any, path string) inject.Operation {
	switch value := value.(type) {
	case map[string]any:
		keys := sortedKeys(value)
		if len(keys) == 0 || r.IntN(4) == 0 {
			return inject.Operation{Op: "add", Path: path + "/" + escape(pick(r, names)), Value: anything(r, 2)}
		}
		key := pick(r, keys)
		return operation(r, value[key], path+"/"+escape(key))
	case []any:
		i := r.IntN(len(value) + 1)
		if i == len(value) {
			return inject.Operation{Op: "add", Path: path + "/-", Value: anything(r, 2)}
		}
		if r.IntN(4) == 0 {
			return inject.Operation{Op: "add", Path: path + "/" + strconv.Itoa(i), Value: anything(r, 2)}
		}
		return operation(r, value[i], path+"/"+strconv.Itoa(i))
	}
	return inject.Operation{Op: "replace", Path: path, Value: anything(r, 2)}
}

var (
	names = []string{"a", "b/c", "yes", "~", "with space", "lightstep.com/status", "1", "#", "ä"}
	texts = []string{
		"plain", "", " ", "yes", "null", "~", "1", "1e3", "0x10", "1:30", "a: b", "# no comment", "a # b", "- a", "{}", "---", "...",
		"two\nlines", "ends\n", "ends twice\n\n", "\nbegins", "  indented\n text\n", "tab\there", "it's", `"quoted"`, "ä €", "😀",
		"a\u2028b", "\u0085", "cr\r\nlf", "@at", "`", "%", "!tag", "&a", "*a", "? a", ": a", "trailing \nspace ", "\x7f", "<<", "\ufeff",
	}
)

// anything makes a value.
func anything(r *rand.Rand, depth int) any {
	switch n := r.IntN(8); {
	case n == 0 && depth > 0:
		list := make([]any, r.IntN(3))
		for i := range list {
			list[i] = anything(r, depth-1)
		}
		return list
	case n == 1 && depth > 0:
		fields := map[string]any{}
		for range r.IntN(3) {
			fields[pick(r, names)] = anything(r, depth-1)
		}
		return fields
	case n == 2:
		return []any{true, false, nil, 0, -1, 1 << 40}[r.IntN(6)]
	}
	return pick(r, texts)
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func escape(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// TestRewriteRefuses holds that a stream that cannot be read is refused as a whole, by document and line.
func TestRewriteRefuses(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}\n"
	tests := map[string]struct{ src, want string }{
		"not YAML":      {pod + "---\n{{ template }}\n", "document 2 (line 5): read as YAML"},
		"key twice":     {pod + "kind: Pod\n", `key "kind" already set`},
		"UTF-16":        {"\xff\xfea\x00", "save it as UTF-8"},
		"anchor":        {"---\na: *b\n", "document 1 (line 1)"},
		"too large":     {pod + strings.Repeat("#", manifest.MaxDocument), "larger than 16 MiB"},
		"two documents": {"a: [\n---\nb: [\n", "document 2 (line 2)"},
		"aliases": {
			"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
				"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n",
			"excessive aliasing",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := manifest.Rewrite([]byte(test.src), everything)
			if err == nil || !strings.Contains(err.Error(), test.want) || got != nil {
				t.Errorf("got %.40q and error %v, want an error with %q", got, err, test.want)
			}
		})
	}
}

// TestJoin holds that joined streams have all documents of both.
func TestJoin(t *testing.T) {
	streams := []string{"a: 1", "a: 1\n", "---\na: 1\n", "%YAML 1.1\n---\na: 1\n", "\ufeffa: 1\r\n", `{"a":1}`, "# none\n---\na: 1\n...\n"}
	for _, a := range streams {
		for _, b := range streams {
			joined := manifest.Join([]byte(a), []byte(b))
			objects, err := manifest.Objects(joined)
			if err != nil || len(objects) != 2 || strings.Contains(string(joined), "---\n%") {
				t.Errorf("%q and %q joined are %q, with %d objects, error %v", a, b, joined, len(objects), err)
			}
		}
	}
}

// TestObjects holds that the items of a list are objects with their type.
func TestObjects(t *testing.T) {
	objects, err := manifest.Objects([]byte("kind: PodList\napiVersion: v1\nitems:\n- metadata: {name: a}\n- {kind: Other, apiVersion: x/v1}\n"))
	want := []string{`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}`, `{"apiVersion":"x/v1","kind":"Other"}`}
	if err != nil || len(objects) != 2 || string(objects[0]) != want[0] || string(objects[1]) != want[1] {
		t.Errorf("got %s, %v, want %s", objects, err, want)
	}
}

// ExampleRewrite adds a label to a pod. The comment stays.
func ExampleRewrite() {
	const src = `apiVersion: v1
kind: Pod
metadata:
  labels:
    app: a  # mine
`
	out, err := manifest.Rewrite([]byte(src), func(manifest.Object) ([]inject.Operation, error) {
		return []inject.Operation{{Op: "add", Path: "/metadata/labels/tier", Value: "web"}}, nil
	})
	fmt.Print(string(out), err)
	// Output:
	// apiVersion: v1
	// kind: Pod
	// metadata:
	//   labels:
	//     app: a  # mine
	//     tier: web
	// <nil>
}
