// Package manifest changes the pods in a stream of Kubernetes manifests and leaves every other byte as it is: comments,
// order, quotes, indentation, documents of kinds that it does not know.
//
// [Rewrite] reads in the order of its files:
//
//   - stream.go cuts the stream into documents, YAML or JSON, without a byte lost in between;
//   - decode.go reads one document's values, the way kubectl does;
//   - kinds.go says in which kinds there is a pod, and where;
//   - tree.go, tree_json.go and tree_yaml.go tell where in the text each value stands;
//   - edit.go turns an RFC 6902 operation into an edit of the text, in the style of its surroundings (render.go);
//   - verify.go reads the edited text again and compares it with what the apiserver's own patch library makes of the
//     original. What is written out is therefore right, or is not written at all;
//   - reencode.go writes a whole document anew, comments and order kept, where an edit of the text cannot be right:
//     where a pod shares a value with another through a YAML alias, for instance.
package manifest
