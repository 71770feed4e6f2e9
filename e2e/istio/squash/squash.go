// Package squashv3 has nothing: see go.mod.
package squashv3
