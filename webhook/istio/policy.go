package istio

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Policy is what an injector does with pods that do not say themselves whether they want a sidecar. It is asked in this
// order: Never, Always, Disabled (istio@1.7.8 and 1.31.0 pkg/kube/inject/inject.go injectRequired).
type Policy struct {
	// Never and Always are the values' neverInjectSelector and alwaysInjectSelector.
	Never, Always []labels.Selector
	// Disabled says that global.proxy.autoInject is disabled.
	Disabled bool
}

const autoInjectDisabled = "disabled"

// selectorsOf passes over what the injector passes over: a selector that cannot be read, and an empty one.
func selectorsOf(list []metav1.LabelSelector) []labels.Selector {
	var selectors []labels.Selector
	for i := range list {
		if selector, err := metav1.LabelSelectorAsSelector(&list[i]); err == nil && !selector.Empty() {
			selectors = append(selectors, selector)
		}
	}
	return selectors
}

// refuses tells whether the injector leaves a pod of these labels alone, and which rule says so.
func (p *Policy) refuses(pod map[string]string) (why string, refuses bool) {
	names := func(s labels.Selector) bool { return s.Matches(labels.Set(pod)) }
	switch {
	case slices.ContainsFunc(p.Never, names):
		return "Istio's neverInjectSelector names the pod", true
	case slices.ContainsFunc(p.Always, names):
		return "", false
	}
	return "Istio's autoInject is disabled, and nothing asks for the sidecar", p.Disabled
}
