package signals

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/revocation"
)

// A Receiver is told what was revoked here: tokens, sessions and principals, as session-revoked events
// of CAEP 1.0, pushed as RFC 8935 describes.
type Receiver struct {
	Name     string     `yaml:"name"`     // in the log; unique
	URL      string     `yaml:"url"`      // where tokens are pushed to; https, or http to a loopback address
	Audience string     `yaml:"audience"` // aud of the tokens
	Token    secret.Ref `yaml:"token"`    // bearer token that Warder presents; empty: none
}

// A Signer signs what is sent, as the authorization server's signer does.
type Signer interface {
	Sign(typ string, claims any) (string, error)
}

// OutboxDeps are what an outbox needs.
type OutboxDeps struct {
	Issuer string       // iss of what is sent; required
	Signer Signer       // required
	State  state.Store  // keeps what is to be sent; required
	HTTP   *http.Client // guarded by internal/safedial; required
	Now    func() time.Time
	Log    *slog.Logger
}

const (
	outKind   = "signal.out"
	maxQueue  = 10_000           // tokens that wait; beyond them the oldest receivers' outage has become ours
	giveUp    = 24 * time.Hour   // after that a token is not sent any more
	lease     = 30 * time.Second // a gateway that sends a token has it for itself this long
	firstWait = time.Second
	maxWait   = 10 * time.Minute
	lookEvery = 2 * time.Second
	gather    = 100 * time.Millisecond
	sendLimit = 10 * time.Second
)

// An Outbox tells receivers what was revoked here. The tokens wait in the store, written together with
// the revocation, until they were received: a gateway that ends loses none, and any gateway may send
// them. It is safe for concurrent use.
type Outbox struct {
	deps      OutboxDeps
	receivers map[string]*destination
}

type destination struct {
	Receiver
	token secret.Value
}

// A letter is the body of a document: one token for one receiver.
type letter struct {
	To    string           `json:"to"`
	ID    string           `json:"id"` // jti: the same with every attempt
	Entry revocation.Entry `json:"entry"`
	Tries int              `json:"tries"`
	Next  time.Time        `json:"next"`
}

// NewOutbox prepares the receivers.
func NewOutbox(ctx context.Context, receivers []Receiver, deps OutboxDeps) (*Outbox, error) {
	if deps.Issuer == "" || deps.Signer == nil || deps.State == nil || deps.HTTP == nil {
		return nil, errors.New("signals: issuer, signer, store or client are missing")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	client := *deps.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	deps.HTTP = &client
	o := &Outbox{deps: deps, receivers: map[string]*destination{}}
	for _, c := range receivers {
		d := &destination{Receiver: c}
		err := c.Validate()
		if err == nil && o.receivers[c.Name] != nil {
			err = errors.New("the name is used twice")
		}
		if err == nil && !c.Token.IsZero() {
			d.token, err = c.Token.Read(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("signals: receiver %q: %w", c.Name, err)
		}
		o.receivers[c.Name] = d
	}
	return o, nil
}

// Validate reports what makes no sense.
func (c Receiver) Validate() error {
	var errs []error
	if c.Name == "" || c.Audience == "" {
		errs = append(errs, errors.New("name or audience are missing"))
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || !jose.SecureURL(u) {
		errs = append(errs, errors.New("url: want https, or http to a loopback address"))
	}
	if !c.Token.IsZero() {
		if err := c.Token.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("token: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Attach returns what is to be sent about an entry, for [revocation.Deps]. What a signal revoked is not
// passed on: two that tell each other everything would never stop.
func (o *Outbox) Attach(e revocation.Entry) ([]state.Doc, error) {
	if strings.HasPrefix(e.By, revocation.Signal) || subjectOf(e) == nil {
		return nil, nil
	}
	var docs []state.Doc
	now := o.deps.Now()
	for name := range o.receivers {
		l := letter{To: name, ID: rand.Text(), Entry: e, Next: now}
		body, err := json.Marshal(l)
		if err != nil {
			return nil, err
		}
		docs = append(docs, state.Doc{Kind: outKind, ID: l.ID, Topic: name, NotAfter: now.Add(giveUp), Body: body})
	}
	return docs, nil
}

// subjectOf names what an entry revokes as RFC 9493 does; nil for what others do not know.
func subjectOf(e revocation.Entry) map[string]any {
	issuer, value, _ := strings.Cut(e.Value, "|")
	switch e.Kind {
	case revocation.KindPrincipal:
		return map[string]any{"format": "iss_sub", "iss": issuer, "sub": value}
	case revocation.KindToken:
		return map[string]any{"format": "jwt_id", "iss": issuer, "jti": value}
	case revocation.KindSession:
		return map[string]any{"format": "complex", "session": map[string]any{"format": "opaque", "id": value}}
	default:
		return nil
	}
}

// claims is the security event token of a letter (RFC 8417 section 2.2).
func (o *Outbox) claims(l *letter, audience string) map[string]any {
	event := map[string]any{
		"event_timestamp": l.Entry.At.Unix(), "initiating_entity": "policy",
	}
	if l.Entry.Reason != "" {
		event["reason_admin"] = map[string]string{"en": l.Entry.Reason}
	}
	return map[string]any{
		"iss": o.deps.Issuer, "aud": audience, "jti": l.ID, "iat": o.deps.Now().Unix(),
		"sub_id": subjectOf(l.Entry), "events": map[string]any{caep + "session-revoked": event},
	}
}

// Run sends until ctx ends.
func (o *Outbox) Run(ctx context.Context) {
	hints := o.deps.State.Watch(ctx)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := o.round(ctx); err != nil && ctx.Err() == nil {
			o.deps.Log.LogAttrs(ctx, slog.LevelWarn, "cannot read what is to be told about revocations", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
		case <-hints:
			pause(ctx, gather) // the store has other writers too
		case <-tick.C:
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// round sends what is due. A receiver that fails is not tried again in this round.
func (o *Outbox) round(ctx context.Context) error {
	down, seen := map[string]bool{}, 0
	for q := (state.Query{Kind: outKind, Limit: 100}); ; {
		docs, err := o.deps.State.List(ctx, q)
		if err != nil {
			return err
		}
		for i := range docs {
			if seen++; seen > maxQueue {
				o.drop(ctx, &docs[i], errors.New("too many wait"))
				continue
			}
			o.deliver(ctx, &docs[i], down)
		}
		if len(docs) < q.Limit {
			return nil
		}
		q.After = docs[len(docs)-1].ID
	}
}

// deliver sends one letter if it is due and nobody else sends it.
func (o *Outbox) deliver(ctx context.Context, d *state.Doc, down map[string]bool) {
	var l letter
	if err := json.Unmarshal(d.Body, &l); err != nil {
		o.drop(ctx, d, err)
		return
	}
	to := o.receivers[l.To]
	if to == nil {
		o.drop(ctx, d, errors.New("the receiver is not configured any more"))
		return
	}
	now := o.deps.Now()
	if now.Before(l.Next) || down[l.To] {
		return
	}
	l.Tries++
	l.Next = now.Add(lease)
	mine, ok := o.keep(ctx, d, &l)
	if !ok {
		return
	}
	again, err := o.send(ctx, to, &l)
	switch {
	case err == nil:
		if err := o.deps.State.Delete(ctx, outKind, mine.ID, mine.Version); err != nil {
			o.deps.Log.LogAttrs(ctx, slog.LevelWarn, "a signal may be sent twice", slog.String("receiver", l.To), slog.Any("error", err))
		}
	case !again:
		o.drop(ctx, mine, err)
	default:
		down[l.To] = true
		o.deps.Log.LogAttrs(ctx, slog.LevelWarn, "a signal was not received, trying again later",
			slog.String("receiver", l.To), slog.Int("tries", l.Tries), slog.Any("error", err))
		l.Next = now.Add(min(maxWait, firstWait<<min(l.Tries-1, 20)))
		_, _ = o.keep(ctx, mine, &l) // without it the lease ends by itself
	}
}

// keep writes a letter back, unless another gateway was faster.
func (o *Outbox) keep(ctx context.Context, d *state.Doc, l *letter) (*state.Doc, bool) {
	body, err := json.Marshal(l)
	if err != nil {
		return nil, false
	}
	next := *d
	next.Body = body
	out, err := o.deps.State.Put(ctx, next)
	if err != nil {
		return nil, false
	}
	return &out[0], true
}

// drop gives a letter up.
func (o *Outbox) drop(ctx context.Context, d *state.Doc, why error) {
	o.deps.Log.LogAttrs(ctx, slog.LevelError, "a signal is given up", slog.String("receiver", d.Topic), slog.Any("error", why))
	_ = o.deps.State.Delete(ctx, outKind, d.ID, d.Version) // it ends by itself
}

// send pushes a token. again says whether another attempt makes sense (RFC 8935 section 2.3).
func (o *Outbox) send(ctx context.Context, to *destination, l *letter) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	token, err := o.deps.Signer.Sign("secevent+jwt", o.claims(l, to.Audience))
	if err != nil {
		return true, fmt.Errorf("sign: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, strings.NewReader(token))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/secevent+jwt")
	req.Header.Set("Accept", "application/json")
	if b := to.token.Bytes(); len(b) > 0 {
		req.Header.Set("Authorization", "Bearer "+string(b))
	}
	resp, err := o.deps.HTTP.Do(req)
	if err != nil {
		return true, err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4096) // so that the connection can be used again
	switch resp.StatusCode {
	case http.StatusAccepted, http.StatusOK:
		return false, nil
	case http.StatusBadRequest:
		return false, fmt.Errorf("status %d", resp.StatusCode)
	default:
		return true, fmt.Errorf("status %d", resp.StatusCode)
	}
}
