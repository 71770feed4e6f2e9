package webhook

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// Serving goes on until nothing has come for a while, and neither less than some time nor more than some other.
func TestDrain(t *testing.T) {
	for name, test := range map[string]struct {
		// requests come so long after draining has begun.
		requests []time.Duration
		want     time.Duration
	}{
		"nobody comes":            {nil, leastDrain},
		"the last comes early":    {[]time.Duration{time.Second}, leastDrain},
		"the last comes late":     {[]time.Duration{time.Second, 4 * time.Second, 6 * time.Second}, 9 * time.Second},
		"somebody always comes":   {every(2 * time.Second), mostDrain},
		"somebody comes too late": {[]time.Duration{time.Second, 6 * time.Second}, leastDrain},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d Drain
				handler := d.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
				if got := call(handler).Header().Get("Connection"); got != "" {
					t.Errorf("a connection is told to %s before the end", got)
				}
				ctx, cancel := context.WithCancel(t.Context())
				for _, at := range test.requests {
					go func() {
						select {
						case <-ctx.Done():
						case <-time.After(at):
							if got := call(handler).Header().Get("Connection"); got != "close" {
								t.Errorf("a connection is told %q at the end", got)
							}
						}
					}()
				}
				began := time.Now()
				d.Wait(t.Context())
				if took := time.Since(began); took != test.want {
					t.Errorf("it took %s, not %s", took, test.want)
				}
				cancel()
			})
		})
	}
}

func every(span time.Duration) (all []time.Duration) {
	for at := span; at < 2*mostDrain; at += span {
		all = append(all, at)
	}
	return all
}

func call(handler http.Handler) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, Path, nil))
	return answer
}
