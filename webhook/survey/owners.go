package survey

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
)

// Owner is what makes pods that were missed, or are stale, anew: or such a pod, where nothing does.
type Owner struct {
	Namespace string   `json:"namespace"`
	Kind      string   `json:"kind"`
	Name      string   `json:"name"`
	Missed    []string `json:"missed"`
	Stale     []string `json:"stale"`
	// Restart is the command that has it make its pods anew; where kubectl has none, Says is what to do.
	Restart string `json:"restart,omitempty"`
	Says    string `json:"says,omitempty"`
}

// mostText bounds each text of an owner reference, in bytes: no valid name is longer.
const mostText = 256

// ownerKey tells owners apart.
type ownerKey struct{ namespace, group, kind, name string }

// The API groups of Kubernetes' own workloads. Others have kinds of the same names.
const (
	apps  = "apps"
	batch = "batch"
)

// owner finds what makes a pod.
func (l *look) owner(ctx context.Context, pod metav1.Object) *Owner {
	key := controllerOf(pod)
	if key.group == apps && key.kind == "ReplicaSet" && key.valid() {
		key = l.deploymentOf(ctx, key)
	}
	if key.kind == "" {
		key.kind, key.name = "Pod", pod.GetName()
	}
	owner := l.owners[key]
	if owner == nil {
		owner = &Owner{Namespace: key.namespace, Kind: key.kind, Name: key.name}
		owner.Restart, owner.Says = key.mend()
		l.owners[key] = owner
	}
	return owner
}

// controllerOf is an object's controller; a key with a namespace alone where it has none.
func controllerOf(object metav1.Object) ownerKey {
	key := ownerKey{namespace: object.GetNamespace()}
	if by := metav1.GetControllerOf(object); by != nil {
		version, err := schema.ParseGroupVersion(by.APIVersion)
		if err == nil {
			// The API server does not bound them. One that is cut has a character that makes it invalid.
			key.group, key.kind, key.name = escape.Cut(version.Group, mostText), escape.Cut(by.Kind, mostText), escape.Cut(by.Name, mostText)
		}
	}
	return key
}

// deploymentOf is the controller of a ReplicaSet, or the ReplicaSet itself where it has none, or may not be read.
func (l *look) deploymentOf(ctx context.Context, set ownerKey) ownerKey {
	if known, ok := l.replicaSets[set]; ok {
		return known
	}
	by := set
	found, err := l.Metadata.Resource(schema.GroupVersionResource{Group: apps, Version: "v1", Resource: "replicasets"}).
		Namespace(set.namespace).Get(ctx, set.name, metav1.GetOptions{})
	if err != nil {
		l.failed(fmt.Errorf("find the owner of ReplicaSet %s -n %s: %w", set.name, set.namespace, err))
	} else if controller := controllerOf(found); controller.kind != "" {
		by = controller
	}
	l.replicaSets[set] = by
	return by
}

// valid reports whether an object can have such a name and kind. The API server checks neither in an ownerReference, so
// both may be any text: it becomes part of no URL and no command.
func (k ownerKey) valid() bool {
	problems := slices.Concat(validation.IsDNS1123Label(k.namespace), validation.IsDNS1123Subdomain(k.name), validation.IsDNS1035Label(strings.ToLower(k.kind)))
	if k.group != "" {
		problems = append(problems, validation.IsDNS1123Subdomain(k.group)...)
	}
	return len(problems) == 0
}

// mend is the command that has an owner make its pods anew, or else what there is to do.
func (k ownerKey) mend() (restart, says string) {
	switch {
	case !k.valid():
		return "", "no object has such a name and kind: correct the ownerReferences of its pods"
	case k.group == apps && slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, k.kind):
		restart, err := escape.Shell("kubectl", "rollout", "restart", strings.ToLower(k.kind)+"/"+k.name, "-n", k.namespace)
		if err != nil {
			return "", err.Error()
		}
		return restart, ""
	case k.group == apps && k.kind == "ReplicaSet":
		return "", "delete its pods, and it makes others: no Deployment of it was found"
	case k.group == batch && k.kind == "Job":
		return "", "its pods end by themselves, and the next ones are injected"
	case k.group == "" && k.kind == "ReplicationController":
		return "", "delete its pods, and it makes others"
	case k.group == "" && k.kind == "Pod":
		return "", "nothing makes it anew: delete it, and create it again"
	}
	return "", fmt.Sprintf("kubectl cannot restart what is of %s: have it make its pods anew by its own means", cmp.Or(k.group, "v1"))
}

// sortedOwners lists the owners by namespace, those that can be restarted first.
func (l *look) sortedOwners() []Owner {
	var list []Owner
	for owner := range maps.Values(l.owners) {
		slices.Sort(owner.Missed)
		slices.Sort(owner.Stale)
		list = append(list, *owner)
	}
	slices.SortFunc(list, func(a, b Owner) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(b.restartable(), a.restartable()), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// restartable is 1 where kubectl can restart it.
func (o *Owner) restartable() int {
	if o.Restart != "" {
		return 1
	}
	return 0
}
