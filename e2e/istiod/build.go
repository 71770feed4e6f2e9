package istiod

import (
	"context"

	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
)

// Version is the release of Istio whose sources e2e/istio/istiod compiles; it cannot know it by itself.
const Version = "1.31.0"

// Build compiles istiod, unless the very same one is there already, and returns the binary's path. root is the
// repository's root. It calls compiling before it compiles, which takes minutes the first time.
func Build(ctx context.Context, root string, compiling func()) (string, error) {
	return compile.Cached(ctx, root, "e2e/istio/istiod", "-s -w -X istio.io/istio/pkg/version.buildVersion="+Version, compiling)
}
