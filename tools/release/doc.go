// Command release makes what a release consists of, without a container engine and without a registry: the program for each
// platform, the image, the chart, an SBOM for each program, and checksums.
//
//	release -root ../.. -out ../../bin/dist -helm ../../.cache/bin/helm
//
// The way of a release, a file per step:
//
//	context.go     the working tree as git sees it, copied
//	dockerfile.go  the Dockerfile, read with BuildKit's own parser; an instruction that is not known here is refused
//	compile.go     its first stage, for one platform: the go build that stands there
//	image.go       its second stage, around what was compiled: an image of the OCI, and the index of all platforms
//	archive.go     the index as a file
//	sbom.go        what is in a program, by what Go noted in it; licence.go reads the modules' licences
//	chart.go       the chart, with the image's digest in its values
//	release.go     all of it in this order, and the checksums
//
// Everything is dated by the commit, so that the same commit gives the same bytes.
package main
