// Package state is the shape of everything Warder remembers that is not a definition or an audit
// record: grants, approvals, revocations, agents, accounts, clients, consents, codes, refresh tokens,
// credentials for servers, signing keys. All of it is documents in one store, which is SQLite for one
// gateway and PostgreSQL for several (package store), or memory ([NewMemory]) in tests.
//
// A document has an id within its kind, two indexed texts, an end, and a body that only its owner
// package reads. Every write is compare-and-swap on the version, so no update is lost between
// replicas; [Store.Take] is for what may be used once. Every write has a sequence number that grows
// over all kinds, so a replica follows what the others did with [Store.Changes]; [Store.Watch] only
// hints that there may be something to follow.
//
// Bodies that are secret are sealed by their owner package before they get here.
package state

import (
	"context"
	"errors"
	"time"
)

// Errors of a store. Any other error means that the store could not be asked, and whoever needed the
// answer must refuse.
var (
	ErrNotFound = errors.New("no such document")
	ErrConflict = errors.New("the document was changed by another")
)

// A Doc is one document.
type Doc struct {
	Kind     string    // such as "grant"; lower case
	ID       string    // unique within the kind
	Owner    string    // whose it is; indexed, may be empty
	Topic    string    // what it is about; indexed, may be empty
	NotAfter time.Time // from then on it does not exist; zero: it does not end
	Body     []byte    // at most MaxBody

	Version int64 // counts the writes of this document; 0 in Put: it must not exist yet
	Seq     int64 // orders the writes of all documents; set by the store
	Deleted bool  // in Changes only: it was deleted, and Body is nil
}

// MaxBody bounds the body of a document, in bytes.
const MaxBody = 256 << 10

// A Query selects documents of one kind. Empty fields select all.
type Query struct {
	Kind  string
	Owner string
	Topic string
	After string // ids greater than this, for the next page
	Limit int    // 0 means 1000, which is also the most
}

// A Store keeps documents. It is safe for concurrent use. What a returned call wrote survives a crash
// of the process.
type Store interface {
	// Get returns a document, or ErrNotFound.
	Get(ctx context.Context, kind, id string) (Doc, error)
	// Put writes documents, all or none, and returns them with Version and Seq set. Each Version must be
	// the one in the store, 0 for a document that is not there or has ended; otherwise ErrConflict.
	Put(ctx context.Context, docs ...Doc) ([]Doc, error)
	// Take returns a document and deletes it in one step, so that of many callers exactly one gets it;
	// the others get ErrNotFound.
	Take(ctx context.Context, kind, id string) (Doc, error)
	// Delete removes a document of exactly this version, or of any version if it is 0. A document that is
	// not there is ErrNotFound.
	Delete(ctx context.Context, kind, id string, version int64) error
	// List returns documents in order of their ids.
	List(ctx context.Context, q Query) ([]Doc, error)
	// Changes returns what was written after a sequence number, in order, at most limit documents, each at
	// its latest write. Deletions are kept for an hour; a caller that was away longer reads all with List.
	// It never skips a write that becomes visible later.
	Changes(ctx context.Context, after int64, limit int) ([]Doc, error)
	// Watch returns a channel that receives when there may be changes, its own writes included, until ctx
	// ends. It is a hint: callers also ask at intervals.
	Watch(ctx context.Context) <-chan struct{}
}

// Replays remembers ids that may be used once, such as those of DPoP proofs (RFC 9449 section 11.1).
// All replicas share it. It is safe for concurrent use.
type Replays interface {
	// Add reports whether the id is new, and remembers it until then. An error means that nobody knows,
	// and the caller must refuse.
	Add(ctx context.Context, id string, until time.Time) (fresh bool, err error)
}
