package registry

import (
	"context"
	"errors"
	"time"

	"github.com/warder-mcp/warder"
)

// Kinds of definitions, as [warder.Tool] names them.
const (
	KindTool         = "tool"
	KindPrompt       = "prompt"
	KindResource     = "resource"
	KindTemplate     = "template"
	KindInstructions = "instructions"
)

// InstructionsName is the name under which a server's instructions are kept: there is one such text
// per server and the protocol gives it no name.
const InstructionsName = "instructions"

// FirstUse is the approver recorded for a definition that was pinned because nobody had decided
// about its name before (trust: first_use).
const FirstUse = "first_use"

// ErrUnknown says that no definition or approval is kept under a key.
var ErrUnknown = errors.New("no such definition")

// A Key names one definition as one server sent it. It is comparable and has no pointers to share.
type Key struct {
	Server string
	Kind   string
	Name   string
	Digest warder.Digest
}

// A Subject names what a definition defines, whatever its content: one tool of one server.
type Subject struct {
	Server string
	Kind   string
	Name   string
}

// Subject returns the key without the digest.
func (k Key) Subject() Subject { return Subject{k.Server, k.Kind, k.Name} }

// A Definition is one definition that a server sent at least once.
type Definition struct {
	Key
	Canonical []byte    // RFC 8785 form, over which Digest is computed
	FirstSeen time.Time // UTC, whole milliseconds
	LastSeen  time.Time // UTC, whole milliseconds; up to [Config.Sighting] behind
}

// An Approval is the last decision about one definition.
type Approval struct {
	Key
	State  warder.State  // Approved or Revoked
	Effect warder.Effect // what calling it may change, as the approver judged
	Labels []string      // data labels of what it returns, as the approver judged
	By     string        // who decided
	At     time.Time     // UTC, whole milliseconds
	Note   string        // why; free text of the approver

	Canonical []byte // the definition; set by [Store.Approvals], not needed by [Store.Decide]
}

// A Store keeps definitions and approvals. Package store implements it. Methods are safe for
// concurrent use, also by several processes; every error means that nothing was changed.
type Store interface {
	// Generation returns a number that grows with every change of an approval, by whichever process.
	Generation(ctx context.Context) (uint64, error)
	// Approvals returns every approval with its definition, and the generation they belong to.
	Approvals(ctx context.Context) ([]Approval, uint64, error)
	// Definitions returns the definitions of one server, or of all for the empty name, ordered by
	// server, kind, name and first sighting.
	Definitions(ctx context.Context, server string) ([]Definition, error)
	// Definition returns one definition, or an error that wraps ErrUnknown.
	Definition(ctx context.Context, key Key) (Definition, error)
	// Sight records that definitions were seen and returns which were not known before. Of those nobody
	// decided about, each server keeps the most recently seen, at most keep.
	Sight(ctx context.Context, seen []Definition, keep int) (unknown []Key, err error)
	// Decide durably replaces the decision about a definition that must be known. With supersede,
	// approvals of other digests of the same subject are revoked in the same transaction.
	Decide(ctx context.Context, a Approval, supersede bool) error
	// Pin durably approves those definitions about whose subject nobody ever decided, and returns which
	// these were.
	Pin(ctx context.Context, seen []Definition, by string, at time.Time) (pinned []Key, err error)
}
