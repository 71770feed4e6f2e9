package serving

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	typedadmissionv1 "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Writer keeps the Secret and the caBundle. Any number may do so at once, though one at a time is meant: each step looks
// at both objects anew, and writes over the very version that it has seen.
type Writer struct {
	Secrets        typedcorev1.SecretsGetter
	Configurations typedadmissionv1.MutatingWebhookConfigurationsGetter
	// Namespace and Name are the Secret's.
	Namespace, Name string
	// Host is the webhook's name, where no webhook configuration says it.
	Host string
	// Propagation is how long a change takes, at most, to be known to every API server and every replica.
	Propagation time.Duration
	// Owners are those with whose end the Secret is to go.
	Owners    func(context.Context) []metav1.OwnerReference
	Reader    *Reader
	Published *Published
	Log       *zap.Logger
	// Now is the clock.
	Now func() time.Time

	// seen and since are the phase that the objects are in, and from when on this process has found them so. It is not kept
	// across a crash on purpose: whoever comes next waits anew, by its own clock, and no two clocks are compared.
	seen  string
	since time.Time
	said  Step
}

// lookAgain bounds the time until another look: no longer than it takes to see that a clock has been set.
const lookAgain = 10 * time.Minute

// Lead keeps both until the context ends.
func (w *Writer) Lead(ctx context.Context) {
	w.Log.Info("certificate: leading")
	defer w.Log.Info("certificate: no longer leading")
	w.keep(ctx)
}

// keep takes step after step until the context ends.
func (w *Writer) keep(ctx context.Context) {
	w.seen, w.said = "", ""
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default: // it is to look already
		}
	}
	listening, stop := context.WithCancel(ctx)
	var listeners wait.Group
	defer listeners.Wait()
	defer stop()
	listeners.Start(func() { _ = w.Reader.secret.listen(listening, notify) }) // fails where the watch has ended, as this then does
	listeners.Start(func() { _ = w.Published.configuration.listen(listening, notify) })
	for backoff := patience(); ctx.Err() == nil; {
		again, err := w.take(ctx)
		switch {
		case apierrors.IsConflict(err):
			again = backoff.Step() // somebody was faster
		case err != nil && ctx.Err() == nil:
			again = backoff.Step()
			w.Log.Error("certificate: failed; it is tried again", zap.Error(err), zap.Duration("after", again))
		case err == nil:
			backoff = patience()
		}
		pause(ctx, changed, min(again, lookAgain))
	}
}

// patience is how long what has failed is left, and how that grows.
func patience() wait.Backoff {
	return wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 10, Cap: 30 * time.Second}
}

// pause returns when something has changed, the time is over, or the context ends.
func pause(ctx context.Context, changed <-chan struct{}, span time.Duration) {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer.C:
	}
}

// take takes the next step, and says when to look again: at once where something was done.
func (w *Writer) take(ctx context.Context) (again time.Duration, err error) {
	secret, err := w.secret(ctx) // first: what the webhook configuration says then is never older than what the Secret does
	if err != nil {
		return 0, err
	}
	configuration, err := w.configuration(ctx)
	if err != nil {
		return 0, err
	}
	s := read(secret, configuration, w.Host)
	now := w.Now()
	if s.phase != w.seen {
		w.seen, w.since = s.phase, now
	}
	step, again := s.step(now, now.Sub(w.since), w.Propagation)
	w.say(step, again)
	switch step {
	case Propose:
		err = w.propose(ctx, secret, s.hosts, now)
	case Publish:
		err = w.publish(ctx, configuration, s)
	case Switch:
		err = w.swap(ctx, secret, s.next)
	case Drop:
		err = w.drop(ctx, configuration, s.current)
	case Await:
		again = lookAgain
	case Hold, Rest:
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", step, err)
	}
	return again, nil
}

// say tells of every step once.
func (w *Writer) say(step Step, again time.Duration) {
	if step == w.said {
		return
	}
	w.said = step
	w.Log.Info("certificate: next step", zap.String("step", string(step)), zap.Duration("again", again))
}

// secret reads the Secret as it is; nil where there is none.
func (w *Writer) secret(ctx context.Context) (*corev1.Secret, error) {
	found, err := w.Secrets.Secrets(w.Namespace).Get(ctx, w.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get Secret %s/%s: %w", w.Namespace, w.Name, err)
	case found.Type != corev1.SecretTypeTLS:
		return nil, fmt.Errorf("the Secret %s/%s is of the type %s: delete it, or name another with --tls-secret", w.Namespace, w.Name, found.Type)
	}
	return found, nil
}

// configuration reads the webhook configuration as it is; nil where there is none.
func (w *Writer) configuration(ctx context.Context) (*admissionv1.MutatingWebhookConfiguration, error) {
	found, err := w.Configurations.MutatingWebhookConfigurations().Get(ctx, Configuration, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get webhook configuration %s: %w", Configuration, err)
	}
	return found, nil
}
