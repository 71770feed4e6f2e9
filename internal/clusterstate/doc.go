// Package clusterstate reads a cluster within bounds: what tenants write decides neither how much memory a read takes, nor
// whether the next read succeeds.
//
//   - bound.go: [BoundResponses], which abandons a response above 8 MiB with a [TooLargeError];
//   - reader.go: the [Reader], and the kinds of objects that it reads: metadata, Secrets, ConfigMaps, pods, custom resources;
//   - source.go: a [Source] of one kind, which reduces each object as it arrives; [Reduced] is what it keeps;
//   - pages.go: lists, page by page; a page that is too large is read again with a smaller limit, down to one object;
//   - watch.go: watches, which hand on reduced objects only;
//   - custom.go: custom resources as JSON, of which nothing but the names is decoded before a rule has asked for more;
//   - events.go: the stream of a custom resource's watch events;
//   - annotations.go: the named annotations that are kept, each cut to 4 KiB.
//
// docs/memory.md states what a cluster costs in memory, docs/decisions/0017-bounded-reads.md why it is read this way.
package clusterstate
