package istiod

import (
	"testing"

	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
)

// TestIstiod runs every test against one control plane, one istiod and one injector.
func TestIstiod(t *testing.T) {
	e := setUp(t)
	t.Run("Bookinfo", func(t *testing.T) { testBookinfo(t, e) })
	t.Run("NotLabelled", func(t *testing.T) { testNotLabelled(t, e) })
	t.Run("Revision", func(t *testing.T) { testRevision(t, e) })
	t.Run("Policy", func(t *testing.T) { testPolicy(t, e) })
	t.Run("Pods", func(t *testing.T) { testPods(t, e) })
	t.Run("Traced", func(t *testing.T) { testTraced(t, e) })
	t.Run("Order", func(t *testing.T) { testOrder(t, e) }) // renames what the others need
	t.Run("NoToken", func(t *testing.T) { e.NoToken(t, istiod.Sent) })
}
