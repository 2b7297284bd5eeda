package record

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record/tlog"
	"github.com/warder-mcp/warder/layer/record/wal"
	"github.com/warder-mcp/warder/wire"
)

// MetaReceipt is the member of _meta in which an answer carries the receipt of its decision.
const MetaReceipt = "io.warder/receipt"

// receiptTitle is the first line of a signed statement, and its version.
const receiptTitle = "warder decision receipt 1"

// ErrReceipt says that a receipt is not one of this log, or was changed.
var ErrReceipt = errors.New("receipt is not as it was signed")

// ErrNotCovered says that no signed checkpoint covers the record yet; it will within seconds.
var ErrNotCovered = errors.New("no signed checkpoint covers the record yet")

// A Statement is what a receipt in an answer says: why a request was allowed. It names neither the
// caller nor the request, but commits to both with a salt that only the caller gets.
type Statement struct {
	Origin    string    `json:"origin"`             // name of the log
	Exchange  string    `json:"exchange"`           // audit id: the record in the trail has it, too
	Time      time.Time `json:"time"`               // of the statement, UTC
	Principal string    `json:"principal"`          // SHA-256 of the salt and the caller, hex
	Request   string    `json:"request"`            // SHA-256 of the salt and the request as it was sent, hex
	Record    string    `json:"record"`             // request_hash of the record in the trail
	Server    string    `json:"server,omitempty"`   //
	Method    string    `json:"method,omitempty"`   //
	Target    string    `json:"target,omitempty"`   // redacted and cut, as in the trail
	Digest    string    `json:"digest,omitempty"`   // of the approved definition, hex
	Decision  string    `json:"decision"`           // allow
	Policies  []string  `json:"policies,omitempty"` // ids of those that allowed
	Grant     string    `json:"grant,omitempty"`    // id of the grant that allowed for a limited time
	Approval  string    `json:"approval,omitempty"` // id of the person's approval
	Config    string    `json:"config,omitempty"`   // digest of the configuration that decided, policies included
}

// receipts puts a signed receipt into the answer. Whoever keeps it can prove later, without access to
// the gateway, what was decided and on what; what was refused is in the trail only.
// Control SGN-02; C2SP signed-note. Phase Response.
type receipts struct {
	log    *Log
	digest string // of the configuration
	limits wire.Limits
	now    func() time.Time
}

var _ warder.Interceptor = (*receipts)(nil)

// Control returns the id in the catalogue.
func (*receipts) Control() warder.ControlID { return "SGN-02" }

// Intercept signs one receipt for a result. An error denies: an answer without the receipt that was
// promised is not delivered.
func (c *receipts) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	if m == nil || m.Kind != warder.KindResult || m.Result == nil || x.Inbound == nil {
		return warder.Continue(), nil
	}
	if c.log.notary == nil {
		return warder.Decision{}, errors.New("no key to sign receipts with")
	}
	value, err := c.receipt(x)
	if err != nil {
		return warder.Decision{}, fmt.Errorf("receipt: %w", err)
	}
	edit := wire.SetMember(m, m.ResultSpan, m.Result, "_meta", bytes.Join([][]byte{[]byte(`{"` + MetaReceipt + `":`), value, []byte("}")}, nil))
	if meta := m.Result.Get("_meta"); meta.Present() {
		edit = wire.SetMember(m, meta, m.Meta, MetaReceipt, value)
	}
	if x.Response, err = wire.Splice(m, c.limits, edit); err != nil {
		return warder.Decision{}, fmt.Errorf("receipt: %w", err)
	}
	return warder.Continue(), nil
}

// receipt is the JSON value that an answer carries.
func (c *receipts) receipt(x *warder.Exchange) ([]byte, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	s := Statement{
		Origin: c.log.notary.Origin(), Exchange: x.ID, Time: c.now().UTC(),
		Principal: commitment(salt, []byte(x.Principal.Key())), Request: commitment(salt, x.Inbound.Raw),
		Record: c.log.Hash(x.Inbound.Raw), Method: clean(x.Method(), maxTarget), Target: resource(x.Target()),
		Decision: "allow", Policies: x.Policies, Approval: x.Approval, Config: c.digest,
	}
	if x.Server != nil {
		s.Server = x.Server.Name
	}
	if x.Tool != nil {
		s.Digest = hex.EncodeToString(x.Tool.Digest[:])
	}
	if x.Grant != nil {
		s.Grant = x.Grant.ID
	}
	line, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	note, err := c.log.notary.Sign(receiptTitle, string(line))
	if err != nil {
		return nil, err
	}
	return json.Marshal(answerReceipt{Note: string(note), Salt: base64.RawURLEncoding.EncodeToString(salt)})
}

// commitment hides a text behind a salt.
func commitment(salt, text []byte) string {
	h := sha256.New()
	h.Write(strconv.AppendInt(nil, int64(len(salt)), 10))
	h.Write([]byte{':'})
	h.Write(salt)
	h.Write(text)
	return hex.EncodeToString(h.Sum(nil))
}

// An answerReceipt is a receipt as an answer carries it.
type answerReceipt struct {
	Note string `json:"note,omitempty"` // signed note over the statement
	Salt string `json:"salt,omitempty"` // base64url
}

// A trailReceipt is a receipt as it is taken out of the trail: the record and the way from it to a
// signed checkpoint.
type trailReceipt struct {
	Record     []byte   `json:"record"`     // as written
	Seq        uint64   `json:"seq"`        //
	Clock      int64    `json:"clock"`      // at commit, nanoseconds since 1970
	Before     []byte   `json:"before"`     // chain before the record
	After      [][]byte `json:"after"`      // leaves behind it in its block
	Index      uint64   `json:"index"`      // of the block in the tree
	Block      []byte   `json:"block"`      //
	Path       [][]byte `json:"path"`       // inclusion proof
	Checkpoint string   `json:"checkpoint"` // signed note
}

// receiptFile is either form.
type receiptFile struct {
	answerReceipt
	Trail *trailReceipt `json:"trail,omitempty"`
}

// A Receipt is a receipt that was verified.
type Receipt struct {
	Origin    string          `json:"origin"`              // name of the log that signed it
	Exchange  string          `json:"exchange"`            //
	Statement *Statement      `json:"statement,omitempty"` // of a receipt from an answer
	Record    json.RawMessage `json:"record,omitempty"`    // of a receipt from the trail: the audit record
	Event     *warder.Event   `json:"-"`                   // the same, read
	Seq       uint64          `json:"seq,omitempty"`       // its place in the trail
	salt      []byte
}

// maxReceipt bounds a receipt in bytes: a record, and the leaves of a block.
const maxReceipt = 2 * wal.MaxPayload

// VerifyReceipt checks a receipt offline with the public key of the log ([Log.VerifierKey]). Any change
// of what it says is [ErrReceipt].
func VerifyReceipt(receipt []byte, verifierKey string) (Receipt, error) {
	var f receiptFile
	dec := json.NewDecoder(bytes.NewReader(receipt))
	dec.DisallowUnknownFields()
	if len(receipt) > maxReceipt {
		return Receipt{}, fmt.Errorf("%w: over %d bytes", ErrReceipt, maxReceipt)
	}
	if err := dec.Decode(&f); err != nil || dec.More() {
		return Receipt{}, fmt.Errorf("%w: not a receipt", ErrReceipt)
	}
	switch {
	case f.Trail != nil && f.answerReceipt == answerReceipt{}:
		return f.Trail.verify(verifierKey)
	case f.Trail == nil && f.Note != "":
		return f.verify(verifierKey)
	default:
		return Receipt{}, fmt.Errorf("%w: not a receipt", ErrReceipt)
	}
}

func (a answerReceipt) verify(verifierKey string) (Receipt, error) {
	line, err := tlog.OpenNote([]byte(a.Note), receiptTitle, verifierKey)
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	salt, err := base64.RawURLEncoding.Strict().DecodeString(a.Salt)
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: salt", ErrReceipt)
	}
	var s Statement
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		return Receipt{}, fmt.Errorf("%w: statement: %w", ErrReceipt, err)
	}
	return Receipt{Origin: s.Origin, Exchange: s.Exchange, Statement: &s, salt: salt}, nil
}

func (r *trailReceipt) verify(verifierKey string) (Receipt, error) {
	p := tlog.Proof{Checkpoint: []byte(r.Checkpoint), Index: r.Index, Entry: r.Block, Path: r.Path}
	cp, block, err := p.Verify(verifierKey)
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if r.Seq < block.First || r.Seq >= block.Next() || uint64(len(r.After)) != block.Next()-r.Seq-1 || len(r.Before) != len(wal.Hash{}) {
		return Receipt{}, fmt.Errorf("%w: the record has no place in the block", ErrReceipt)
	}
	leaves := []wal.Hash{wal.LeafOf(time.Unix(0, r.Clock), r.Record)}
	for _, l := range r.After {
		if len(l) != len(wal.Hash{}) {
			return Receipt{}, fmt.Errorf("%w: leaf", ErrReceipt)
		}
		leaves = append(leaves, wal.Hash(l))
	}
	if wal.Chain(wal.Hash(r.Before), leaves...) != block.Chain {
		return Receipt{}, fmt.Errorf("%w: the record is not the one in the block", ErrReceipt)
	}
	e, err := parseEvent(r.Record)
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return Receipt{Origin: cp.Origin, Exchange: e.Exchange, Record: r.Record, Event: &e, Seq: r.Seq}, nil
}

// IsOfRequest reports whether a receipt from an answer is about this request, byte for byte as it was
// sent. Of a receipt from the trail only the holder of the data folder can tell, with [Reader.Hash].
func (r Receipt) IsOfRequest(raw []byte) bool {
	return r.Statement != nil && subtle.ConstantTimeCompare([]byte(commitment(r.salt, raw)), []byte(r.Statement.Request)) == 1
}

// Receipt takes the receipt of an exchange out of the trail: its finished record with the proof that a
// signed checkpoint covers it. It is [ErrNotFound] without such a record, [ErrNotCovered] for seconds
// after it was written.
func (r *Reader) Receipt(ctx context.Context, exchange string) ([]byte, error) {
	if exchange == "" {
		return nil, ErrNotFound
	}
	id, err := logID(r.dir)
	if err != nil {
		return nil, fmt.Errorf("open audit trail: %w", err)
	}
	t := trailReceipt{After: [][]byte{}}
	var block tlog.Block
	before := wal.Genesis(id)
	for rec, err := range wal.Records(filepath.Join(r.dir, walDir), 0) {
		switch {
		case err != nil:
			return nil, err
		case t.Record == nil && isFinished(rec.Payload, exchange):
			t.Record, t.Seq, t.Clock, t.Before = bytes.Clone(rec.Payload), rec.Seq, rec.Time.UnixNano(), bytes.Clone(before[:])
			var p tlog.Proof
			p, block, err = tlog.Prove(ctx, filepath.Join(r.dir, treeDir), rec.Seq)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if p.Entry == nil {
				return nil, fmt.Errorf("exchange %q: %w", exchange, ErrNotCovered)
			}
			t.Index, t.Block, t.Path, t.Checkpoint = p.Index, p.Entry, p.Path, string(p.Checkpoint)
		case t.Record != nil && rec.Seq < block.Next():
			t.After = append(t.After, bytes.Clone(rec.Leaf[:]))
		}
		if t.Record != nil && rec.Seq+1 >= block.Next() {
			break
		}
		before = rec.Chain
	}
	if t.Record == nil {
		return nil, fmt.Errorf("exchange %q: %w", exchange, ErrNotFound)
	}
	return json.MarshalIndent(receiptFile{Trail: &t}, "", "  ")
}

// isFinished reports whether a record is the finished one of the exchange.
func isFinished(payload []byte, exchange string) bool {
	if !bytes.Contains(payload, []byte(exchange)) {
		return false
	}
	e, err := parseEvent(payload)
	return err == nil && e.Type == warder.EventExchange && e.Exchange == exchange
}
