// Package release upgrades the injector from an earlier release, and rolls it back, while pods are created: none is missed, and no
// copy of a Secret is deleted. It also has the replicas of each of the two work with the policies of the other, as they do while an
// upgrade is on its way.
package release
