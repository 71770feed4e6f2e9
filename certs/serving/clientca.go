package serving

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// ClientCA follows the CA of the API server's client certificate in one key of a Secret.
type ClientCA struct {
	name, key string
	trust     func([]byte) error
	log       *zap.Logger
	secret    *object[*corev1.Secret]
	// active is true once a content has been trusted.
	active atomic.Bool
}

// NewClientCA returns one that passes each content of a Secret's key to trust, which returns an error for a content that is
// not valid and then keeps the one before.
func NewClientCA(secrets typedcorev1.SecretsGetter, namespace, name, key string, trust func([]byte) error, log *zap.Logger) *ClientCA {
	return &ClientCA{name: name, key: key, trust: trust, log: log, secret: follow(secrets.Secrets(namespace), &corev1.Secret{}, name, log)}
}

// Run follows the Secret until the context ends.
func (c *ClientCA) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { c.secret.run(ctx) })
	return c.secret.listen(ctx, c.read)
}

// Check returns why no client CA is active, until one has been. No client can be served until then.
func (c *ClientCA) Check() error {
	if c.active.Load() {
		return nil
	}
	secret, there, known := c.secret.now()
	switch {
	case !known && c.secret.forbidden.Load():
		return fmt.Errorf("read the client CA: the injector's account may not watch Secret %s", c.name)
	case !known:
		return fmt.Errorf("the client CA's Secret %s has not been read yet", c.name)
	case !there:
		return fmt.Errorf("there is no Secret %s with the client CA", c.name)
	}
	return fmt.Errorf("the Secret %s has no valid client CA: %w", c.name, c.of(secret))
}

// read passes on what the Secret has now. What is not valid is reported, and changes nothing.
func (c *ClientCA) read() {
	secret, there, known := c.secret.now()
	switch {
	case !known:
		return
	case !there:
		if c.active.Load() {
			c.log.Error("client CA: Secret not found, the last valid client CA stays active", zap.String("secret", c.name))
		}
		return
	}
	if err := c.of(secret); err != nil {
		c.log.Error("client CA rejected, the last valid one stays active", zap.String("secret", c.name), zap.Error(err))
		return
	}
	c.active.Store(true)
	c.log.Info("client CA loaded", zap.String("secret", c.name))
}

// of trusts what the Secret has.
func (c *ClientCA) of(secret *corev1.Secret) error {
	bundle, ok := secret.Data[c.key]
	if !ok {
		return fmt.Errorf("it has no key %s", c.key)
	}
	return c.trust(bundle)
}
