// Package settings is the configuration: what a platform team writes in one file, and what it means for one namespace and
// one pod. It is pure.
//
//   - configuration.go: the file's form, field by field, with its defaults;
//   - parse.go: strict parsing into Settings, the immutable value that everything else reads;
//   - validate.go: every rule that a value must keep, and the words that mend it;
//   - resolve.go: a profile with the annotations of a namespace and of a pod applied, as far as `overrides` lets them.
package settings
