package istiod

import (
	"context"

	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
)

// The releases of Istio whose sources are compiled here; they cannot know it by themselves.
const (
	// Version is the newest, that of e2e/istio/istiod.
	Version = "1.31.0"
	// Middle is that of e2e/istio/v1_26.
	Middle = "1.26.0"
)

// Build compiles the istiod of a release, unless the very same one is there already, and returns the binary's path. root is
// the repository's root. It calls compiling before it compiles, which takes minutes the first time.
func Build(ctx context.Context, root, version string, compiling func()) (string, error) {
	folder := "e2e/istio/istiod"
	if version == Middle {
		folder = "e2e/istio/v1_26"
	}
	return compile.Cached(ctx, root, folder, "-s -w -X istio.io/istio/pkg/version.buildVersion="+version, compiling)
}
