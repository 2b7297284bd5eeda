// Package revocation knows what was revoked (control JIT-04): tokens, sessions, principals, agents,
// clients, grants, servers, tools, tenants, issuers, or everything.
//
//	set, err := revocation.New(ctx, revocation.Deps{State: db.State(), Record: trail.Append})
//	err = set.Revoke(ctx, revocation.Entry{Kind: revocation.KindPrincipal, Value: "https://idp.example|ada", By: "operator"})
//	entry, revoked := set.Check(x.Principal, "notes", "search", nil)
//
// Every gateway holds all of it in memory behind one atomic pointer, so asking costs a load when nothing
// is revoked and a few map look-ups otherwise. The entries are documents of one store; each gateway
// follows the store's changes, sees its own at once and those of others when it is told of them, at the
// latest at the next poll. [Set.Age] says how long ago the memory was last known to be complete: whoever
// must not act on old knowledge refuses when that is too long ago.
//
// Package revocation/signals takes revocations from identity providers and passes ours on.
package revocation

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// A Kind says what an entry revokes. The list is closed.
type Kind string

// The kinds, with the form of their values. Where a value has an issuer in front, the first "|" ends it.
const (
	KindToken     Kind = "token"     // "issuer|jti", the jti being Principal.TokenID
	KindSession   Kind = "session"   // "issuer|sid"
	KindPrincipal Kind = "principal" // "issuer|subject"
	KindAgent     Kind = "agent"     // name of a registered agent, or the agent or actor a token names
	KindClient    Kind = "client"    // "issuer|client_id", or a client id at any issuer
	KindGrant     Kind = "grant"     // id of a grant
	KindServer    Kind = "server"    // name of a server
	KindTool      Kind = "tool"      // "server/name"
	KindTenant    Kind = "tenant"    // name of a tenant
	KindIssuer    Kind = "issuer"    // issuer of credentials
	KindAll       Kind = "all"       // "*": everything
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{KindToken, KindSession, KindPrincipal, KindAgent, KindClient, KindGrant, KindServer, KindTool, KindTenant, KindIssuer, KindAll}
}

// An Entry says that something is revoked.
type Entry struct {
	Kind  Kind   `json:"kind"`
	Value string `json:"value"`
	// At is when it was revoked; set by Revoke if it is zero.
	At time.Time `json:"at"`
	// NotAfter is when the entry ends; zero: when it is lifted. For a token it is the token's end.
	NotAfter time.Time `json:"not_after,omitzero"`
	// Before limits the entry to credentials of people who signed in by then, or, where that is not
	// known, to credentials issued by then: whoever signs in again is not affected. Zero: all.
	Before time.Time `json:"before,omitzero"`
	// Renewed makes Before count from when a credential was issued, even if it is known when the person
	// signed in: a renewed credential is not affected.
	Renewed bool   `json:"renewed,omitempty"`
	Reason  string `json:"reason,omitempty"` // for operators, at most 1024 bytes
	By      string `json:"by"`               // who revoked it: an operator, or the transmitter of a signal
}

// Errors that a caller can act on. Any other error of Revoke and Lift means that the store or the trail
// could not be written.
var (
	ErrUnknownKind = errors.New("unknown kind")
	ErrValue       = errors.New("value does not fit the kind")
	ErrNotRevoked  = errors.New("it is not revoked")
	ErrFull        = errors.New("too many revocations")
)

const (
	docKind    = "revoked"
	maxValue   = 4096
	maxText    = 1024
	maxEntries = 1 << 20
	// MaxAge is how old what a Set knows may be, see [Set.Age], for decisions that must be fresh.
	MaxAge = 5 * time.Second
)

// Deps are what a Set needs.
type Deps struct {
	State  state.Store                               // required
	Record func(context.Context, warder.Event) error // writes to the audit trail, durably; required
	// Attach returns documents to write together with an entry that is new or was widened, such as what
	// is to be told to others. May be nil.
	Attach func(Entry) ([]state.Doc, error)
	Now    func() time.Time // nil for time.Now
	Log    *slog.Logger     // nil for none
}

// A Set knows what is revoked. It is safe for concurrent use.
type Set struct {
	deps    Deps
	current atomic.Pointer[snapshot]
	fresh   atomic.Int64 // when the memory was last known to be complete, Unix nanoseconds

	mu    sync.Mutex             // of what follows: the writers of current
	docs  map[string]*remembered // by id of the document
	after int64                  // sequence number up to which changes were followed

	stop context.CancelFunc
	done sync.WaitGroup
}

type remembered struct {
	entry Entry
	seq   int64
}

// New reads what is revoked, and follows it until ctx ends or Close is called.
func New(ctx context.Context, deps Deps) (*Set, error) {
	if deps.State == nil || deps.Record == nil {
		return nil, errors.New("revocation: no store or no audit trail")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	s := &Set{deps: deps}
	s.current.Store(build(nil, 1))
	if err := s.load(ctx, false); err != nil {
		return nil, fmt.Errorf("revocation: %w", err)
	}
	ctx, s.stop = context.WithCancel(ctx)
	hints := deps.State.Watch(ctx)
	s.done.Go(func() { s.follow(ctx, hints) })
	return s, nil
}

// Close stops following and waits. What is known stays known, and grows old.
func (s *Set) Close() error {
	s.stop()
	s.done.Wait()
	return nil
}

// Generation is a number that changes with every change of the set.
func (s *Set) Generation() uint64 { return s.current.Load().generation }

// Changed returns a channel that is closed at the next change.
func (s *Set) Changed() <-chan struct{} { return s.current.Load().changed }

// Age is the time since the set was last known to be complete. It stays below a second while the store
// answers.
func (s *Set) Age(now time.Time) time.Duration {
	return max(0, time.Duration(now.UnixNano()-s.fresh.Load()))
}

// Revoke revokes what the entry names, on this gateway when it returns and on the others shortly after,
// and records it. An entry that is there is widened, never narrowed. When it fails after the store was
// written, such as because the trail cannot be, the revocation stands.
func (s *Set) Revoke(ctx context.Context, e Entry) error {
	if e.At.IsZero() {
		e.At = s.deps.Now()
	}
	e.At = e.At.UTC()
	if err := e.check(); err != nil {
		return fmt.Errorf("revoke %.20s: %w", e.Kind, err)
	}
	if !e.NotAfter.IsZero() && !e.NotAfter.After(s.deps.Now()) {
		return nil // it has ended: there is nothing that it would revoke
	}
	if err := s.put(ctx, e); err != nil {
		return fmt.Errorf("revoke %s: %w", e.Kind, err)
	}
	if err := s.deps.Record(ctx, event("revoked", e, e.By)); err != nil {
		return fmt.Errorf("revoke %s: it is revoked, but not recorded: %w", e.Kind, err)
	}
	return nil
}

// put writes the entry, together with what is there.
func (s *Set) put(ctx context.Context, e Entry) error {
	id := docID(e.Kind, e.Value)
	for range 8 {
		there, err := s.deps.State.Get(ctx, docKind, id)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
		merged := e
		if err == nil {
			if old, err := decode(&there); err == nil { // one that cannot be read is replaced
				if merged = old.widened(e); merged == old {
					s.apply([]state.Doc{there}, 0)
					return nil
				}
			}
		} else if s.count() >= maxEntries {
			return ErrFull
		}
		body, err := json.Marshal(merged)
		if err != nil {
			return err
		}
		docs := []state.Doc{{
			Kind: docKind, ID: id, Topic: string(e.Kind), NotAfter: merged.NotAfter, Body: body, Version: there.Version,
		}}
		if s.deps.Attach != nil {
			more, err := s.deps.Attach(merged)
			if err != nil {
				return err
			}
			docs = append(docs, more...)
		}
		written, err := s.deps.State.Put(ctx, docs...)
		if errors.Is(err, state.ErrConflict) {
			continue
		}
		if err != nil {
			return err
		}
		s.apply(written, 0)
		return nil
	}
	return state.ErrConflict
}

func (s *Set) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.docs)
}

// widened returns an entry that revokes what either does. The text is that of the one that revokes more,
// but a signal never takes the place of what an operator said: what an operator revoked, a signal cannot
// restore.
func (e Entry) widened(by Entry) Entry {
	out := e
	if covers(by.NotAfter, e.NotAfter) && covers(by.Before, e.Before) && (!by.Renewed || e.Renewed) {
		out = by
	}
	out.NotAfter, out.Before, out.Renewed = later(e.NotAfter, by.NotAfter), later(e.Before, by.Before), e.Renewed && by.Renewed
	if out.NotAfter.Equal(e.NotAfter) && out.Before.Equal(e.Before) && out.Renewed == e.Renewed {
		out = e
	}
	if e.signalled() != by.signalled() {
		operator := e
		if e.signalled() {
			operator = by
		}
		out.At, out.Reason, out.By = operator.At, operator.Reason, operator.By
	}
	return out
}

// Signal is what By begins with in entries that a transmitter of signals made.
const Signal = "signal:"

func (e *Entry) signalled() bool { return strings.HasPrefix(e.By, Signal) }

// covers reports whether an end is at or after another; zero is no end.
func covers(a, b time.Time) bool { return a.IsZero() || !b.IsZero() && !a.Before(b) }

func later(a, b time.Time) time.Time {
	if covers(a, b) {
		return a
	}
	return b
}

// Lift ends a revocation, on this gateway when it returns. It is recorded first: nothing is restored
// that the trail does not know of.
func (s *Set) Lift(ctx context.Context, kind Kind, value, by string) error {
	e := Entry{Kind: kind, Value: value, At: s.deps.Now().UTC(), By: by}
	if err := e.check(); err != nil {
		return fmt.Errorf("lift %.20s: %w", kind, err)
	}
	id := docID(kind, value)
	if _, err := s.deps.State.Get(ctx, docKind, id); err != nil {
		if errors.Is(err, state.ErrNotFound) {
			err = ErrNotRevoked
		}
		return fmt.Errorf("lift %s: %w", kind, err)
	}
	if err := s.deps.Record(ctx, event("restored", e, by)); err != nil {
		return fmt.Errorf("lift %s: record it: %w", kind, err)
	}
	if err := s.deps.State.Delete(ctx, docKind, id, 0); err != nil && !errors.Is(err, state.ErrNotFound) {
		return fmt.Errorf("lift %s: %w", kind, err)
	}
	if err := s.sync(ctx); err != nil {
		return fmt.Errorf("lift %s: %w", kind, err)
	}
	return nil
}

// Find returns the entry for exactly this value, as this gateway knows it.
func (s *Set) Find(kind Kind, value string) (Entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.docs[docID(kind, value)]
	if r == nil || r.entry.ended(s.deps.Now()) {
		return Entry{}, false
	}
	return r.entry, true
}

// List returns what is revoked, as the store has it, ordered by kind.
func (s *Set) List(ctx context.Context) ([]Entry, error) {
	var list []Entry
	err := s.each(ctx, func(d *state.Doc) error {
		e, err := decode(d)
		list = append(list, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list revocations: %w", err)
	}
	return list, nil
}

// event describes a change for the trail.
func event(what string, e Entry, by string) warder.Event {
	const shown = 256
	detail := what + " " + string(e.Kind)
	if e.Reason != "" {
		detail += ": " + e.Reason
	}
	ev := warder.Event{
		Type: warder.EventRevocation, Control: "JIT-04", Target: string(e.Kind) + " " + e.Value,
		Detail: detail, Principal: &warder.EventPrincipal{Subject: by},
	}
	for _, text := range []*string{&ev.Target, &ev.Detail, &ev.Principal.Subject} {
		if len(*text) > shown {
			*text = strings.ToValidUTF8((*text)[:shown], "")
		}
	}
	if e.Kind == KindServer {
		ev.Server = e.Value
	}
	return ev
}

// docID bounds and cleans the value.
func docID(kind Kind, value string) string {
	sum := sha256.Sum256([]byte(value))
	return string(kind) + ":" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// check reports what the entry lacks.
func (e *Entry) check() error {
	if len(e.Value) == 0 || len(e.Value) > maxValue || len(e.Reason) > maxText || len(e.By) > maxText {
		return fmt.Errorf("%w: it is empty, or a text is too long", ErrValue)
	}
	if e.By == "" {
		return fmt.Errorf("%w: nobody revokes", ErrValue)
	}
	issuer, rest, two := strings.Cut(e.Value, "|")
	switch e.Kind {
	case KindToken, KindSession, KindPrincipal:
		if !two || issuer == "" || rest == "" {
			return fmt.Errorf("%w: want \"issuer|%s\"", ErrValue, e.Kind)
		}
	case KindTool:
		if server, name, ok := strings.Cut(e.Value, "/"); !ok || server == "" || name == "" {
			return fmt.Errorf("%w: want \"server/tool\"", ErrValue)
		}
	case KindAll:
		if e.Value != "*" {
			return fmt.Errorf("%w: want \"*\"", ErrValue)
		}
	case KindClient:
		if two && (issuer == "" || rest == "") {
			return fmt.Errorf("%w: want \"issuer|client_id\" or a client id", ErrValue)
		}
	case KindAgent, KindGrant, KindServer, KindTenant, KindIssuer:
	default:
		return ErrUnknownKind
	}
	return nil
}
