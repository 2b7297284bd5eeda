package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// Kinds of documents.
const (
	kindRecovery = "admin.recovery" // id: SHA-256 of a recovery code
	kindGlass    = "admin.glass"    // id: SHA-256 of the token of a session
)

// Bounds of break-glass.
const (
	defaultGlass = 15 * time.Minute
	maxGlass     = time.Hour
	recoverySet  = 8 // codes made at a time
	minReason    = 8 // characters
	maxReason    = 1000
)

// glassPrefix begins every token of break-glass, so that it is never taken for another.
const glassPrefix = "warder_bg_"

// BreakGlass is the way in when the identity provider is down: a recovery code that was printed once
// opens a session of an owner for at most an hour. Every use takes one code, is written to the audit
// trail before it is in force, and raises an alert.
//
// It needs the store and the audit trail, and nothing else.
type BreakGlass struct{ deps *Deps }

func newBreakGlass(deps *Deps) *BreakGlass { return &BreakGlass{deps} }

// available reports whether there is a store for it.
func (b *BreakGlass) available() bool { return b.deps.State != nil }

// codeID is the id of a recovery code, however it was typed.
func codeID(code string) string {
	code = strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(code))
	return hashID("recovery", code)
}

func hashID(domain, value string) string {
	sum := sha256.Sum256([]byte("warder:" + domain + ":" + value))
	return hex.EncodeToString(sum[:])
}

// Codes makes a new set of recovery codes. Those of before are not good any more.
func (b *BreakGlass) Codes(ctx context.Context) (RecoveryCodes, error) {
	old, err := b.deps.State.List(ctx, state.Query{Kind: kindRecovery})
	if err != nil {
		return RecoveryCodes{}, fmt.Errorf("list recovery codes: %w", err)
	}
	for _, d := range old {
		if err := b.deps.State.Delete(ctx, kindRecovery, d.ID, 0); err != nil && !errors.Is(err, state.ErrNotFound) {
			return RecoveryCodes{}, fmt.Errorf("end recovery code: %w", err)
		}
	}
	var out RecoveryCodes
	docs := make([]state.Doc, recoverySet)
	for i := range docs {
		code := grouped(rand.Text()[:25]) // 125 random bits
		out.Codes = append(out.Codes, code)
		docs[i] = state.Doc{Kind: kindRecovery, ID: codeID(code), Body: []byte("{}")}
	}
	if _, err := b.deps.State.Put(ctx, docs...); err != nil {
		return RecoveryCodes{}, fmt.Errorf("keep recovery codes: %w", err)
	}
	return out, nil
}

// grouped writes five characters at a time.
func grouped(s string) string {
	var parts []string
	for len(s) > 5 {
		parts, s = append(parts, s[:5]), s[5:]
	}
	return strings.Join(append(parts, s), "-")
}

// Left counts the codes that are left.
func (b *BreakGlass) Left(ctx context.Context) (int, error) {
	docs, err := b.deps.State.List(ctx, state.Query{Kind: kindRecovery})
	if err != nil {
		return 0, fmt.Errorf("count recovery codes: %w", err)
	}
	return len(docs), nil
}

// Open opens a session with a code. The entry in the audit trail comes first; then the code is taken,
// so that of many who try it at once exactly one gets in.
func (b *BreakGlass) Open(ctx context.Context, from string, r GlassRequest) (GlassSession, error) {
	ttl := defaultGlass
	if r.TTLSeconds != 0 {
		ttl = time.Duration(r.TTLSeconds) * time.Second
	}
	reason := strings.TrimSpace(r.Reason)
	switch {
	case len(reason) < minReason || len(reason) > maxReason:
		return GlassSession{}, invalid("reason: say why, in %d to %d characters", minReason, maxReason)
	case r.TTLSeconds < 0 || r.TTLSeconds > int64(maxGlass/time.Second):
		return GlassSession{}, invalid("ttl_seconds: want at most %d", int64(maxGlass/time.Second))
	}
	id := codeID(r.Code)
	if _, err := b.deps.State.Get(ctx, kindRecovery, id); err != nil {
		return GlassSession{}, b.refuse(ctx, from, reason, err)
	}
	now := b.deps.Now().UTC()
	token := glassPrefix + rand.Text() + rand.Text()
	s := GlassSession{ID: hashID("glass", token)[:16], Reason: reason, From: from, At: now, NotAfter: now.Add(ttl)}
	if err := b.deps.Record(ctx, b.event(from, "open", warder.Critical, fmt.Sprintf("session=%s until=%s reason=%q", s.ID, s.NotAfter.Format(time.RFC3339), cut(reason)))); err != nil {
		b.deps.Log.ErrorContext(ctx, "record break-glass", slog.Any("error", err))
		return GlassSession{}, errUnavailable
	}
	if _, err := b.deps.State.Take(ctx, kindRecovery, id); err != nil {
		return GlassSession{}, b.refuse(ctx, from, reason, err)
	}
	body, err := encode(s)
	if err != nil {
		return GlassSession{}, err
	}
	if _, err := b.deps.State.Put(ctx, state.Doc{Kind: kindGlass, ID: hashID("glass", token), Topic: s.ID, NotAfter: s.NotAfter, Body: body}); err != nil {
		return GlassSession{}, fmt.Errorf("keep break-glass session: %w", err)
	}
	b.alarm(ctx, s)
	s.Token = token
	return s, nil
}

// refuse writes down a code that is not good.
func (b *BreakGlass) refuse(ctx context.Context, from, reason string, cause error) error {
	if !errors.Is(cause, state.ErrNotFound) {
		return fmt.Errorf("look up recovery code: %w", cause)
	}
	e := b.event(from, "refused", warder.High, fmt.Sprintf("reason=%q", cut(reason)))
	e.Reason = "recovery_code_unknown"
	if err := b.deps.Record(ctx, e); err != nil {
		b.deps.Log.ErrorContext(ctx, "record break-glass", slog.Any("error", err))
	}
	return problem(http.StatusForbidden, codeForbidden, "the recovery code is not good, or was used before")
}

func (b *BreakGlass) event(from, verb string, severity warder.Severity, detail string) warder.Event {
	now := b.deps.Now().UTC()
	return warder.Event{
		ID: warder.NewID(now), Time: now, Type: warder.EventAdmin, Method: "break_glass." + verb, Peer: from,
		Principal: &warder.EventPrincipal{Issuer: localIssuer, Subject: glassSubject},
		Findings:  []warder.Finding{{Control: (*secondFactor)(nil).Control(), Rule: "break_glass_" + verb, Severity: severity}},
		Detail:    "break-glass " + verb + " " + detail,
	}
}

// glassSubject is who acts in a break-glass session.
const glassSubject = "break-glass"

// alarm tells somebody. The session stands even when nobody can be told: this is for the hour when much
// is down.
func (b *BreakGlass) alarm(ctx context.Context, s GlassSession) {
	b.deps.Log.ErrorContext(ctx, "BREAK-GLASS: owner access was opened with a recovery code",
		slog.String("session", s.ID), slog.String("from", s.From), slog.String("reason", s.Reason), slog.Time("until", s.NotAfter))
	if b.deps.Alert == nil {
		return
	}
	err := b.deps.Alert(context.WithoutCancel(ctx), Alert{
		ID: s.ID, Time: s.At, Severity: warder.Critical.String(), Event: "break_glass.open",
		Text: "Owner access was opened with a recovery code.", Reason: s.Reason, From: s.From, Until: s.NotAfter,
	})
	if err != nil {
		b.deps.Log.ErrorContext(ctx, "alert about break-glass", slog.Any("error", err))
	}
}

// operator is the owner whom a token of break-glass makes.
func (b *BreakGlass) operator(ctx context.Context, token, from string) (*Operator, error) {
	if !b.available() {
		return nil, errNoCredential
	}
	d, err := b.deps.State.Get(ctx, kindGlass, hashID("glass", token))
	if errors.Is(err, state.ErrNotFound) {
		return nil, errors.New("break-glass: the session is unknown or has ended")
	}
	if err != nil {
		return nil, fmt.Errorf("break-glass: %w: %w", errUnavailable, err)
	}
	var s GlassSession
	if err := json.Unmarshal(d.Body, &s); err != nil {
		return nil, fmt.Errorf("break-glass: %w", err)
	}
	if !b.deps.Now().Before(s.NotAfter) {
		return nil, errors.New("break-glass: the session has ended")
	}
	p := &warder.Principal{Issuer: localIssuer, Subject: glassSubject, Session: s.ID, AuthTime: s.At, NotAfter: s.NotAfter, Transport: "bearer", Purpose: s.Reason}
	return &Operator{Principal: p, Roles: []Role{RoleOwner}, Factor: "break-glass", Address: from}, nil
}

// Sessions lists the sessions that are open.
func (b *BreakGlass) Sessions(ctx context.Context) ([]GlassSession, error) {
	docs, err := b.deps.State.List(ctx, state.Query{Kind: kindGlass})
	if err != nil {
		return nil, fmt.Errorf("list break-glass sessions: %w", err)
	}
	var out []GlassSession
	for _, d := range docs {
		var s GlassSession
		if err := json.Unmarshal(d.Body, &s); err != nil {
			return nil, fmt.Errorf("read break-glass session: %w", err)
		}
		out = append(out, s)
	}
	return out, nil
}

// End ends a session, or all of them if the id is empty.
func (b *BreakGlass) End(ctx context.Context, id string) error {
	docs, err := b.deps.State.List(ctx, state.Query{Kind: kindGlass, Topic: id})
	if err != nil {
		return fmt.Errorf("list break-glass sessions: %w", err)
	}
	if id != "" && len(docs) == 0 {
		return fmt.Errorf("break-glass session: %w", ErrNotFound)
	}
	for _, d := range docs {
		if err := b.deps.State.Delete(ctx, kindGlass, d.ID, 0); err != nil && !errors.Is(err, state.ErrNotFound) {
			return fmt.Errorf("end break-glass session: %w", err)
		}
	}
	return nil
}
