package serving

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	fcache "k8s.io/client-go/tools/cache/testing"
)

// A replica is not ready until its Secret has had a valid client CA; what is not valid later is reported and changes nothing.
func TestClientCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.InfoLevel)
		from := source{fcache.NewFakeControllerSource()}
		defer from.Shutdown()
		var trusted string
		c := &ClientCA{name: name, key: chainKey, log: zap.New(core), trust: func(bundle []byte) error {
			if !strings.HasPrefix(string(bundle), "good") {
				return errors.New("no good")
			}
			trusted = string(bundle)
			return nil
		}}
		c.secret = follow(from, &corev1.Secret{}, name, c.log)
		waits := func(says string) {
			t.Helper()
			if err := c.Check(); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("it says %v, not %q", err, says)
			}
		}
		waits("has not been read yet")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		waits("there is no Secret " + name)
		from.Add(secretOf([]byte("bad"), nil))
		synctest.Wait()
		waits("no good")
		none := secretOf(nil, nil)
		delete(none.Data, chainKey)
		from.Modify(none)
		synctest.Wait()
		waits("it has no key " + chainKey)
		for _, step := range []struct{ content, trusted, logged string }{
			{"good 1", "good 1", "client CA loaded"},
			{"bad", "good 1", "client CA rejected, the last valid one stays active"},
			{"good 2", "good 2", "client CA loaded"},
		} {
			logged.TakeAll()
			from.Modify(secretOf([]byte(step.content), nil))
			synctest.Wait()
			lines := logged.All()
			if err := c.Check(); err != nil || trusted != step.trusted || len(lines) != 1 || lines[0].Message != step.logged {
				t.Errorf("%s: %v, trusted %s; the log has %v", step.content, err, trusted, lines)
			}
		}
		from.Delete(secretOf(nil, nil))
		synctest.Wait()
		if err := c.Check(); err != nil || trusted != "good 2" {
			t.Errorf("deleted: %v, trusted %s", err, trusted)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
