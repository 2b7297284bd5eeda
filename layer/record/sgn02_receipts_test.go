package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record/tlog"
	"github.com/warder-mcp/warder/wire"
)

// answered is an exchange with an answer on its way to the client.
func answered(tb testing.TB, l *Log, result string) (*receipts, *warder.Exchange) {
	tb.Helper()
	c := &receipts{log: l, digest: "c0ffee", now: time.Now}
	x := call(tb, warder.EffectWrite, `{"to":"bob"}`)
	x.Inbound, x.Policies, x.Approval = x.Request, []string{"mail"}, "ap-1"
	x.Grant = &warder.Grant{ID: "gr-1"}
	x.Response = decode(tb, `{"jsonrpc":"2.0","id":7,"result":`+result+`}`)
	return c, x
}

// receiptOf runs the control and takes the receipt out of the answer.
func receiptOf(tb testing.TB, c *receipts, x *warder.Exchange) []byte {
	tb.Helper()
	d, err := c.Intercept(tb.Context(), x)
	if err != nil || d.Verdict != warder.Pass {
		tb.Fatalf("%+v, %v", d, err)
	}
	return bytes.Clone(x.Response.At(x.Response.Meta.Get(MetaReceipt)))
}

func TestSGN02(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, testConfig())
	t.Run("pass receipt of an answer", func(t *testing.T) {
		for _, result := range []string{`{}`, `{"content":[]}`, `{"content":[],"_meta":{"a":1}}`, `{"_meta":{}}`} {
			c, x := answered(t, l, result)
			raw := receiptOf(t, c, x)
			r, err := VerifyReceipt(raw, l.VerifierKey())
			if err != nil {
				t.Fatal(err)
			}
			s := r.Statement
			if s == nil || r.Exchange != x.ID || s.Decision != "allow" || !slices.Equal(s.Policies, x.Policies) || s.Approval != "ap-1" ||
				s.Grant != "gr-1" || s.Config != "c0ffee" || s.Record != l.Hash(x.Inbound.Raw) || s.Origin != r.Origin {
				t.Errorf("statement %+v", s)
			}
			if !r.IsOfRequest(x.Inbound.Raw) {
				t.Error("the receipt is not of its request")
			}
			if strings.Contains(string(raw), x.Principal.Subject) || strings.Contains(string(raw), "bob") {
				t.Errorf("the receipt names caller or arguments: %s", raw)
			}
			if a := wire.At(x.Response, x.Response.Meta.Get("a")); strings.Contains(result, `"a"`) && string(a.Raw()) != "1" {
				t.Error("the answer's own _meta is lost")
			}
		}
	})
	t.Run("near_miss error has no place for one", func(t *testing.T) {
		c, x := answered(t, l, `{}`)
		x.Response = decode(t, `{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"x"}}`)
		if raw := receiptOf(t, c, x); raw != nil {
			t.Errorf("an error carries %s", raw)
		}
	})
	t.Run("deny receipt of another request", func(t *testing.T) {
		c, x := answered(t, l, `{}`)
		r, err := VerifyReceipt(receiptOf(t, c, x), l.VerifierKey())
		if err != nil || r.IsOfRequest(bytes.Replace(x.Inbound.Raw, []byte("bob"), []byte("eve"), 1)) {
			t.Errorf("%v: the receipt is of a changed request", err)
		}
	})
	t.Run("deny every edit of an answer's receipt", func(t *testing.T) {
		c, x := answered(t, l, `{}`)
		raw := receiptOf(t, c, x)
		whole, err := VerifyReceipt(raw, l.VerifierKey())
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			changed := bytes.Clone(raw)
			changed[i] ^= 1
			r, err := VerifyReceipt(changed, l.VerifierKey())
			// The spare bits of base64 say nothing.
			if err == nil && (!cmp.Equal(whole.Statement, r.Statement) || r.IsOfRequest(x.Inbound.Raw) && !bytes.Equal(whole.salt, r.salt)) {
				t.Fatalf("byte %d changed from %q to %q: %s", i, raw[i], changed[i], changed)
			}
			if err != nil && !errors.Is(err, ErrReceipt) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	})
	t.Run("deny key of another log", func(t *testing.T) {
		c, x := answered(t, l, `{}`)
		_, other, err := tlog.GenerateKey(l.notary.Origin())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyReceipt(receiptOf(t, c, x), other); !errors.Is(err, ErrReceipt) {
			t.Error(err)
		}
	})
	t.Run("deny checkpoint as a statement", func(t *testing.T) {
		if _, err := l.notary.Sign(l.notary.Origin(), "1"); err == nil {
			t.Error("the notary signs what could be a checkpoint")
		}
		note, err := l.notary.Sign("another statement", `{"decision":"allow"}`)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(answerReceipt{Note: string(note), Salt: "AA"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyReceipt(b, l.VerifierKey()); !errors.Is(err, ErrReceipt) {
			t.Error(err)
		}
	})
	t.Run("dependency_killed no key", func(t *testing.T) {
		c, x := answered(t, &Log{}, `{}`)
		if d, err := c.Intercept(t.Context(), x); err == nil {
			t.Errorf("an answer without its receipt passes: %+v", d)
		}
	})
	t.Run("trail", func(t *testing.T) { trailReceipts(t, l, dir) })
}

// trailReceipts writes exchanges, takes receipts of them and changes these.
func trailReceipts(t *testing.T, l *Log, dir string) {
	t.Helper()
	rec := newRecorder(l)
	var ids []string
	for range 7 {
		x := call(t, warder.EffectRead, `{}`)
		ids = append(ids, x.ID)
		if err := rec.Record(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.AppendWait(t.Context(), warder.Event{Type: warder.EventLifecycle}); err != nil {
		t.Fatal(err)
	}
	reader, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		raw, err := reader.Receipt(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		r, err := VerifyReceipt(raw, l.VerifierKey())
		if err != nil || r.Exchange != id || !bytes.Contains(r.Record, []byte(`"type":"exchange"`)) {
			t.Fatalf("pass %s: %+v, %v", id, r, err)
		}
	}
	raw, err := reader.Receipt(t.Context(), ids[3])
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*trailReceipt){
		"record":          func(r *trailReceipt) { r.Record = bytes.Replace(r.Record, []byte("allowed"), []byte("refused"), 1) },
		"time":            func(r *trailReceipt) { r.Clock++ },
		"place":           func(r *trailReceipt) { r.Seq++ },
		"chain":           func(r *trailReceipt) { r.Before[0] ^= 1 },
		"chain too short": func(r *trailReceipt) { r.Before = r.Before[1:] },
		"leaf dropped":    func(r *trailReceipt) { r.After = r.After[1:] },
		"leaf too long":   func(r *trailReceipt) { r.After[0] = append(r.After[0], 0) },
		"block":           func(r *trailReceipt) { r.Block[20] ^= 1 },
		"index":           func(r *trailReceipt) { r.Index++ },
		"path":            func(r *trailReceipt) { r.Path = append(r.Path, make([]byte, 32)) },
		"checkpoint":      func(r *trailReceipt) { r.Checkpoint = strings.Replace(r.Checkpoint, "\n", "x\n", 1) },
		"no checkpoint":   func(r *trailReceipt) { r.Checkpoint = "" },
	} {
		var f receiptFile
		if err := json.Unmarshal(raw, &f); err != nil {
			t.Fatal(err)
		}
		change(f.Trail)
		b, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := VerifyReceipt(b, l.VerifierKey()); !errors.Is(err, ErrReceipt) {
			t.Errorf("deny %s: verified as %+v, %v", name, r, err)
		}
	}
	if _, err := reader.Receipt(t.Context(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("near_miss unknown exchange: %v", err)
	}
	for _, b := range []string{"", "{}", `{"note":"x","trail":{}}`, `{"other":1}`, "[]"} {
		if _, err := VerifyReceipt([]byte(b), l.VerifierKey()); !errors.Is(err, ErrReceipt) {
			t.Errorf("deny %q: %v", b, err)
		}
	}
}

// TestReceiptOfUncoveredRecord asks before the tree holds the record.
func TestReceiptOfUncoveredRecord(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Delay, cfg.Checkpoint = time.Millisecond, 2*time.Second
	dir := t.TempDir()
	l := openLog(t, dir, cfg)
	if err := l.Append(t.Context(), warder.Event{Type: warder.EventExchange, Exchange: "x-1"}); err != nil {
		t.Fatal(err)
	}
	reader, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Receipt(t.Context(), "x-1"); !errors.Is(err, ErrNotCovered) {
		t.Errorf("got %v, want %v", err, ErrNotCovered)
	}
}

func FuzzVerifyReceipt(f *testing.F) {
	l := openLog(f, f.TempDir(), testConfig())
	c, x := answered(f, l, `{}`)
	f.Add(receiptOf(f, c, x))
	f.Add([]byte(`{"trail":{"record":"e30=","seq":1,"before":"","after":[],"index":0,"block":"","path":[],"checkpoint":"x"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := VerifyReceipt(raw, l.VerifierKey())
		if err == nil && (r.Statement == nil || r.Exchange != x.ID) {
			t.Fatalf("a receipt that was never signed verifies: %s", raw)
		}
	})
}

// BenchmarkReceipt is what a receipt adds to an answer.
func BenchmarkReceipt(b *testing.B) {
	c, x := answered(b, openLog(b, b.TempDir(), testConfig()), `{"content":[]}`)
	plain := x.Response
	b.ReportAllocs()
	for b.Loop() {
		x.Response = plain
		if _, err := c.Intercept(b.Context(), x); err != nil {
			b.Fatal(err)
		}
	}
}
