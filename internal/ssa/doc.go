// Package ssa writes the objects that the injector owns: with server-side apply, under one field manager, never forced.
//
//   - owned.go: the field manager and the labels, and which object is the injector's;
//   - write.go: [Apply] and [Delete]. Both are bound to the version of the object that the decision was made on.
//
// All requests go through the metadata client, so that no answer carries an object's content.
package ssa
