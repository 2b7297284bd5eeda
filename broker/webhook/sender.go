package webhook

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/warder-mcp/warder/broker"
)

// A SenderConfig says where calls that wait are told of.
type SenderConfig struct {
	URL string // https, or http on a loopback address
	Key Key    // signs
}

// SenderDeps are what a sender needs from outside.
type SenderDeps struct {
	HTTP *http.Client // of package safedial; required
	// ApprovalURL is where a person decides; may be nil.
	ApprovalURL func(hold string) string
	Now         func() time.Time // nil for time.Now
	Log         *slog.Logger     // nil for none
}

// Limits of a sender.
const (
	queued      = 256 // messages that wait to be sent; further ones are dropped, and people still see the calls
	attempts    = 4
	attemptTime = 10 * time.Second
	firstPause  = time.Second
)

// A Sender tells of calls that wait. It is safe for concurrent use.
type Sender struct {
	cfg  SenderConfig
	deps SenderDeps
	wait chan broker.Hold
	stop context.CancelFunc
	done sync.WaitGroup
}

// NewSender starts a sender; Close stops it.
func NewSender(cfg SenderConfig, deps SenderDeps) (*Sender, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("webhook: want an https URL")
	}
	if err := cfg.Key.check(true); err != nil {
		return nil, err
	}
	if deps.HTTP == nil {
		return nil, errors.New("webhook: no HTTP client")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Sender{cfg: cfg, deps: deps, wait: make(chan broker.Hold, queued), stop: stop}
	s.done.Go(func() { s.run(ctx) })
	return s, nil
}

// Close stops sending; what was not sent is dropped.
func (s *Sender) Close() error {
	s.stop()
	s.done.Wait()
	return nil
}

// Notify tells of a call, later. It never blocks.
func (s *Sender) Notify(h broker.Hold) {
	select {
	case s.wait <- h:
	default:
		s.deps.Log.Warn("a call that waits is not told of: too many messages wait", slog.String("hold", h.ID))
	}
}

func (s *Sender) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-s.wait:
			if err := s.deliver(ctx, h); err != nil && ctx.Err() == nil {
				s.deps.Log.ErrorContext(ctx, "a call that waits cannot be told of", slog.String("hold", h.ID), slog.Any("error", err))
			}
		}
	}
}

// A held is the body of a message out.
type held struct {
	Type      string    `json:"type"` // "approval.requested"
	Timestamp time.Time `json:"timestamp"`
	Data      heldData  `json:"data"`
}

type heldData struct {
	broker.Hold
	Reversible string `json:"reversible"`
	URL        string `json:"url,omitempty"`
}

// deliver sends one message, a few times if need be, always under the same id. A call that has ended is
// not told of any more.
func (s *Sender) deliver(ctx context.Context, h broker.Hold) error {
	data := heldData{Hold: h, Reversible: h.Reversible()}
	data.Parameters = nil
	if s.deps.ApprovalURL != nil {
		data.URL = s.deps.ApprovalURL(h.ID)
	}
	body, err := json.Marshal(held{"approval.requested", h.OpenedAt, data})
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	id, pause := "msg_"+rand.Text(), firstPause
	for n := 0; ; n++ {
		err = s.send(ctx, id, body)
		if err == nil || n == attempts-1 || !s.deps.Now().Add(pause).Before(h.Expires) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause *= 4
	}
}

func (s *Sender) send(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	s.cfg.Key.sign(r.Header, id, s.deps.Now(), body)
	answer, err := s.deps.HTTP.Do(r)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 4<<10)) // so that the connection can be used again
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("send: answered %d", answer.StatusCode)
	}
	return nil
}
