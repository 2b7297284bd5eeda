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
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
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

	Version int64 // of this write, never again given to another of this id; 0 in Put: it must not exist yet
	Seq     int64 // orders the writes of all documents; set by the store
	Deleted bool  // in Changes only: it was deleted, and Body is nil
}

// Bounds of a document and of one answer.
const (
	MaxBody = 256 << 10 // bytes of a body
	MaxText = 1024      // bytes of an id, an owner and a topic
	MaxKind = 64        // bytes of a kind
	MaxList = 1000      // documents of one List or Changes
)

// Tombstones is how long Changes knows of a deletion.
const Tombstones = time.Hour

// Check reports why a store cannot keep the document: it has no kind or id, a text is too long, is not
// UTF-8 or holds a zero byte, the body is too large, or the end cannot be told in nanoseconds since 1970.
func Check(d *Doc) error {
	for _, text := range []string{d.Kind, d.ID, d.Owner, d.Topic} {
		if len(text) > MaxText || !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return fmt.Errorf("document %.40q %.80q: a text is longer than %d bytes, no UTF-8 or holds a zero byte", d.Kind, d.ID, MaxText)
		}
	}
	switch {
	case d.Kind == "" || len(d.Kind) > MaxKind || d.ID == "":
		return fmt.Errorf("document %.80q %.80q: no kind, a kind of more than %d bytes, or no id", d.Kind, d.ID, MaxKind)
	case len(d.Body) > MaxBody:
		return fmt.Errorf("document %s %q: %d bytes, at most %d", d.Kind, d.ID, len(d.Body), MaxBody)
	case !d.NotAfter.IsZero() && (d.NotAfter.Year() < 1971 || d.NotAfter.Year() > 2261):
		return fmt.Errorf("document %s %q: ends in the year %d", d.Kind, d.ID, d.NotAfter.Year())
	}
	return nil
}

// CheckAll reports why a store cannot keep the documents together: one of them by itself, or two with
// the same kind and id.
func CheckAll(docs []Doc) error {
	seen := make(map[[2]string]bool, len(docs))
	for i := range docs {
		d := &docs[i]
		if err := Check(d); err != nil {
			return err
		}
		key := [2]string{d.Kind, d.ID}
		if seen[key] {
			return fmt.Errorf("document %s %q: given twice", d.Kind, d.ID)
		}
		seen[key] = true
	}
	return nil
}

// Ended reports whether the document no longer exists at this moment.
func (d *Doc) Ended(now time.Time) bool {
	return d.Deleted || !d.NotAfter.IsZero() && !now.Before(d.NotAfter)
}

// A Query selects documents of one kind. Empty fields select all.
type Query struct {
	Kind  string
	Owner string
	Topic string
	After string // ids greater than this, for the next page
	Limit int    // 0 means MaxList, which is also the most
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
	// Changes returns what was written after a sequence number, in order, at most limit documents (0 means
	// MaxList, which is also the most), each at its latest write, also such as have ended since. Deletions
	// are kept for an hour; a caller that was away longer reads all with List. It never skips a write that
	// becomes visible later.
	Changes(ctx context.Context, after int64, limit int) ([]Doc, error)
	// Latest returns the sequence number of the latest write, 0 before the first. Whoever begins to follow
	// asks for it, then reads all with List, then follows with Changes from there.
	Latest(ctx context.Context) (int64, error)
	// Watch returns a channel that receives when there may be changes, its own writes included, until ctx
	// ends. It is a hint: callers also ask at intervals.
	Watch(ctx context.Context) <-chan struct{}
}

// ProofID begins the ids of DPoP proofs. One comes with every call and ends after a few minutes, so an
// implementation of [Replays] may keep them in memory, if it refuses what it lost.
const ProofID = "dpop:"

// Replays remembers ids that may be used once, such as those of DPoP proofs (RFC 9449 section 11.1).
// All replicas share it. It is safe for concurrent use.
type Replays interface {
	// Add reports whether the id is new, and remembers it until then. An id whose time is over is not new.
	// Always give the same id the same end: what an implementation forgets, such as in a restart, it
	// recognises by its end. An error means that nobody knows, and the caller must refuse.
	Add(ctx context.Context, id string, until time.Time) (fresh bool, err error)
}
