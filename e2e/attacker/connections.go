package attacker

import (
	"context"
	"io"
)

// HalfOpen holds connections on each of which a TLS handshake has begun and never ends.
func HalfOpen(connections int) Attack {
	return func(ctx context.Context, p *Party) {
		each(ctx, connections, func(ctx context.Context) error {
			c, err := p.connect(ctx)
			if err != nil {
				return err
			}
			// The header of a record of 512 bytes, and the first of a ClientHello.
			return say(c, []byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01})
		})
	}
}

// Idle holds connections that never send a request, after the TLS handshake where there is one. protocols are offered; HTTP/2 is
// begun where it is agreed on.
func Idle(connections int, protocols ...string) Attack {
	return func(ctx context.Context, p *Party) {
		each(ctx, connections, func(ctx context.Context) error {
			c, protocol, err := p.connectTLS(ctx, protocols...)
			if err != nil {
				return err
			}
			if protocol == http2Protocol {
				return say(c, preface())
			}
			return say(c, nil)
		})
	}
}

// FailedHandshakes begins handshakes that fail at once.
func FailedHandshakes(attackers int) Attack {
	return func(ctx context.Context, p *Party) {
		each(ctx, attackers, func(ctx context.Context) error {
			for ctx.Err() == nil {
				c, err := p.connect(ctx)
				if err != nil {
					return err
				}
				if err := p.asks(ctx); err != nil {
					return err
				}
				if err := say(c, []byte("this is no handshake")); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// say sends something, and reads until the connection ends.
func say(c io.ReadWriteCloser, text []byte) error {
	defer func() { _ = c.Close() }()
	if _, err := c.Write(text); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}
