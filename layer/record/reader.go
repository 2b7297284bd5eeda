package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record/wal"
)

// ErrNotFound means that the trail holds nothing about an exchange, or no body of it.
var ErrNotFound = errors.New("not in the audit trail")

// A Reader reads a trail, also while a gateway writes it. It is safe for concurrent use.
type Reader struct {
	dir  string
	salt salt
}

// Open opens the trail in dir for reading.
func Open(dir string) (*Reader, error) {
	r := &Reader{dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, saltFile))
	if err != nil {
		return nil, fmt.Errorf("open audit trail: %w", err)
	}
	if len(b) != len(r.salt) {
		return nil, fmt.Errorf("open audit trail: %s is damaged", saltFile)
	}
	copy(r.salt[:], b)
	return r, nil
}

// A Filter selects events. Zero fields select everything.
type Filter struct {
	Exchange string           // id of the exchange, or of its parent
	Type     warder.EventType //
	Server   string           //
	Method   string           //
	Target   string           // tool, prompt or resource as recorded
	Subject  string           // of the principal
	Outcome  warder.Outcome   //
	Control  warder.ControlID // that refused
	Since    time.Time        // inclusive
	Until    time.Time        // exclusive
}

func (f Filter) matches(e *warder.Event) bool {
	subject := ""
	if e.Principal != nil {
		subject = e.Principal.Subject
	}
	return (f.Exchange == "" || f.Exchange == e.Exchange || f.Exchange == e.Parent) &&
		(f.Type == "" || f.Type == e.Type) &&
		(f.Server == "" || f.Server == e.Server) &&
		(f.Method == "" || f.Method == e.Method) &&
		(f.Target == "" || f.Target == e.Target) &&
		(f.Subject == "" || f.Subject == subject) &&
		(f.Outcome == "" || f.Outcome == e.Outcome) &&
		(f.Control == "" || f.Control == e.Control) &&
		(f.Since.IsZero() || !e.Time.Before(f.Since)) &&
		(f.Until.IsZero() || e.Time.Before(f.Until))
}

// Events yields the selected events in the order in which they were written. It stops with an error
// at the first record that is not sound; [Verify] says more about it.
func (r *Reader) Events(f Filter) iter.Seq2[warder.Event, error] {
	return func(yield func(warder.Event, error) bool) {
		needle := []byte(f.Exchange)
		for rec, err := range wal.Records(filepath.Join(r.dir, walDir), 0) {
			if err != nil {
				yield(warder.Event{}, err)
				return
			}
			if !bytes.Contains(rec.Payload, needle) {
				continue
			}
			e, err := parseEvent(rec.Payload)
			if err != nil {
				yield(warder.Event{}, fmt.Errorf("record %d: %w", rec.Seq, err))
				return
			}
			if f.matches(&e) && !yield(e, nil) {
				return
			}
		}
	}
}

// Find returns every event of one exchange and of those that continue it, oldest first.
func (r *Reader) Find(exchange string) ([]warder.Event, error) {
	if exchange == "" {
		return nil, ErrNotFound
	}
	var found []warder.Event
	for e, err := range r.Events(Filter{Exchange: exchange}) {
		if err != nil {
			return found, err
		}
		found = append(found, e)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("exchange %q: %w", exchange, ErrNotFound)
	}
	return found, nil
}

// Hash is the salted SHA-256 of b as it stands in the trail, to find a known request again.
func (r *Reader) Hash(b []byte) string { return string(r.salt.sum(nil, b)) }

// VerifierKey is the public key of the checkpoints as the folder has it. Whoever wants to detect a
// replaced folder keeps the key elsewhere.
func (r *Reader) VerifierKey() (string, error) {
	b, err := os.ReadFile(filepath.Join(r.dir, verifierFile))
	return strings.TrimSpace(string(b)), err
}

// Body returns the captured request of an exchange. It is [ErrNotFound] when it was not captured or
// has been erased.
func (r *Reader) Body(exchange string) ([]byte, error) {
	if !safeName(exchange) {
		return nil, ErrNotFound
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return nil, fmt.Errorf("open audit folder: %w", err)
	}
	defer root.Close()
	sealed, err := root.ReadFile(filepath.Join(captureDir, exchange))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("body of exchange %q: %w", exchange, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("captured body: %w", err)
	}
	aead, err := captureKey(root, false)
	if err != nil {
		return nil, err
	}
	body, err := aead.Open(nil, nil, sealed, []byte(exchange))
	if err != nil {
		return nil, fmt.Errorf("captured body of %q is damaged or of another exchange: %w", exchange, err)
	}
	return body, nil
}

// logID reads the id of the log.
func logID(dir string) (id wal.ID, err error) {
	b, err := os.ReadFile(filepath.Join(dir, idFile))
	if err != nil {
		return id, err
	}
	if n, err := hex.Decode(id[:], bytes.TrimSpace(b)); err != nil || n != len(id) {
		return id, fmt.Errorf("%s is damaged", idFile)
	}
	return id, nil
}
