// Package inject is the pure core: a pod and what is known of the cluster in, a JSON patch out. It reads from top to
// bottom in the order in which a request goes:
//
//   - request.go, snapshot.go: what comes in;
//   - decide.go: whether the pod is injected, by a list of rules, each with a typed reason (reason.go);
//   - plan.go: what the pod needs: the volume, the mounts, and by mesh.go the sidecar's annotations and env;
//   - patch.go: the plan as RFC 6902 operations: additions, and replaces of what is ours or merged, nothing else;
//   - run.go: the three in a row; explain.go: the same, told rule by rule.
//
// The core converges: whatever it sees, it adds what is missing. Run over its own result, it has nothing to add, so it
// does not matter whether Istio's injector ran before, runs after, or adds a container between two passes.
//
// It imports nothing that does I/O, keeps time or logs, and never panics on what a user can write; a test holds it to that.
package inject
