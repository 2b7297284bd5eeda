package record

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/warder-mcp/warder"
)

func newRecorder(l *Log) *recorder {
	return &recorder{log: l, digest: "cfg-1", now: time.Now, seen: newCredentials()}
}

// finish records exchanges and returns the events of the trail in order.
func finish(t *testing.T, xs ...*warder.Exchange) (dir string, all []warder.Event) {
	t.Helper()
	dir = t.TempDir()
	l := openLog(t, dir, testConfig())
	r := newRecorder(l)
	for _, x := range xs {
		if err := r.Record(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	return dir, events(t, dir, Filter{})
}

func TestLOG01(t *testing.T) {
	t.Parallel()
	t.Run("pass: an allowed call leaves one complete record and one of its first authentication", testAllowed)
	t.Run("near_miss: the same credential again is no new authentication", testSameCredential)
	t.Run("deny: a refusal names control, reason, findings and every step", testRefusal)
	t.Run("deny: no seeded secret reaches the folder", testNoSecrets)
	t.Run("deny: a flood of unidentified peers is counted, not written", testFlood)
	t.Run("dependency_killed: a record that cannot be queued is an error and is reported later", testRecorderWithoutStore)
}

func testAllowed(t *testing.T) {
	t.Parallel()
	x := call(t, warder.EffectWrite, `{"to":"bob"}`)
	dir, got := finish(t, x)
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []warder.Event{{
		Type: warder.EventExchange, Exchange: x.ID, TraceID: "aa010000000000000000000000000000",
		Door: warder.DoorHTTP, Revision: warder.Revision20251125, Peer: "192.0.2.7",
		Principal: &warder.EventPrincipal{Issuer: "https://idp.example.com", Subject: "alice", Client: "ide", TokenID: "jti-1"},
		Endpoint:  "office", Server: "office", Method: "tools/call", Target: "send_mail",
		Digest: "d1" + strings.Repeat("00", 31), Effect: "write", RequestHash: r.Hash(x.Inbound.Raw),
		Outcome: warder.OutcomeAllowed, Trail: x.Trail, Policies: []string{"office.permit"}, Forwarded: true,
		Messages: 1, BytesIn: x.BytesIn, BytesOut: 55, DurationUS: x.Finished.Sub(x.Received).Microseconds(), ConfigDigest: "cfg-1",
	}, {
		Type: warder.EventAuth, Exchange: x.ID, Outcome: warder.OutcomeAllowed, ConfigDigest: "cfg-1",
	}}
	brief := cmpopts.IgnoreFields(warder.Event{}, "ID", "Time")
	if d := cmp.Diff(want[0], got[0], brief); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
	if len(got) != 2 || got[1].Type != warder.EventAuth || got[1].Outcome != warder.OutcomeAllowed || got[1].Principal.TokenID != "jti-1" {
		t.Errorf("authentication record: %+v", got[1:])
	}
	if got[0].ID >= got[1].ID && got[0].ID[:10] != got[1].ID[:10] {
		t.Errorf("ids %s and %s do not sort by time", got[0].ID, got[1].ID)
	}
	if r.Hash(x.Inbound.Raw) == (&Reader{}).Hash(x.Inbound.Raw) {
		t.Error("the hash does not depend on the salt of the folder")
	}
}

func testSameCredential(t *testing.T) {
	t.Parallel()
	first, again, other := call(t, 0, `{}`), call(t, 0, `{}`), call(t, 0, `{}`)
	other.Principal = &warder.Principal{Issuer: "https://idp.example.com", Subject: "alice", Client: "ide", TokenID: "jti-2"}
	_, all := finish(t, first, again, other)
	var accepted []string
	for _, e := range all {
		if e.Type == warder.EventAuth {
			accepted = append(accepted, e.Principal.TokenID)
		}
	}
	if d := cmp.Diff([]string{"jti-1", "jti-2"}, accepted); d != "" {
		t.Errorf("accepted credentials (-want +got):\n%s", d)
	}
}

func testRefusal(t *testing.T) {
	t.Parallel()
	d := warder.Refuse(warder.CodeDenied, "forbidden_argument", "policy office.mail forbids").Tell("Not to outsiders.")
	d.Control, d.Policies = "CVM-01", []string{"office.mail"}
	d.Findings = []warder.Finding{{Rule: "outside", Severity: warder.High, Pointer: "/params/arguments/to", Evidence: "domain"}}
	x := refused(call(t, warder.EffectWrite, `{"to":"eve@outside.example"}`), d)
	watched := warder.Refuse(warder.CodeRateLimited, "too_fast", "")
	watched.Control, watched.Observed = "GW-03", true
	x.Decisions = append([]warder.Decision{watched}, x.Decisions...)
	_, got := finish(t, x)
	e := got[0]
	if e.Outcome != warder.OutcomeRefused || e.Code != warder.CodeDenied || e.Reason != "forbidden_argument" || e.Control != "CVM-01" || e.Forwarded {
		t.Errorf("refusal recorded as %+v", e)
	}
	wantDecisions := []warder.Decision{
		{Control: "GW-03", Code: warder.CodeRateLimited, Reason: "too_fast", Observed: true},
		{
			Control: "CVM-01", Code: warder.CodeDenied, Reason: "forbidden_argument", Detail: "policy office.mail forbids",
			Public: "Not to outsiders.", Policies: []string{"office.mail"},
		},
	}
	if d := cmp.Diff(wantDecisions, e.Decisions); d != "" {
		t.Errorf("decisions (-want +got):\n%s", d)
	}
	wantFindings := []warder.Finding{{Control: "CVM-01", Rule: "outside", Severity: warder.High, Pointer: "/params/arguments/to", Evidence: "domain"}}
	if d := cmp.Diff(wantFindings, e.Findings); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
	if d := cmp.Diff(x.Trail, e.Trail); d != "" {
		t.Errorf("trail (-want +got):\n%s", d)
	}

	noToken := warder.Decision{Control: "IAM-05", Verdict: warder.Challenge, Code: warder.CodeUnauthenticated, Reason: "token_missing"}
	x = refused(call(t, 0, `{}`), noToken)
	x.Principal, x.Inbound, x.Request, x.Tool = nil, nil, nil, nil
	_, got = finish(t, x)
	if len(got) != 2 || got[1].Type != warder.EventAuth || got[1].Outcome != warder.OutcomeRefused || got[1].Reason != "token_missing" {
		t.Errorf("refused authentication recorded as %+v", got)
	}
}

// testNoSecrets plants secrets in every place that a peer controls, and in what careless controls
// might repeat, and searches every file of the folder for them.
func testNoSecrets(t *testing.T) {
	t.Parallel()
	const argument, header, result, meta = "open-sesame-argument", "header-credential-0815", "result-secret-4711", "meta-secret-99"
	x := call(t, warder.EffectWrite, `{"password":"`+argument+`","deep":[{"x":"`+argument+`"}]}`)
	x.Inbound = decode(t, `{"jsonrpc":"2.0","id":"id-`+argument+`","method":"tools/call","params":{"name":"send_mail","arguments":{"password":"`+argument+`"},"_meta":{"k":"`+meta+`"}}}`)
	x.Response = decode(t, `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"`+result+`"}]}}`)
	x.Conn.Query = "access_token=" + header
	x.Client = warder.ClientInfo{Name: header, Capabilities: []byte(`{"a":"` + argument + `"}`)}
	x.Resume = []byte(argument)
	d := warder.Refuse(warder.CodeDenied, "bad", "value "+argument+" with "+header+" gave "+result).Tell("not " + argument)
	d.Control = "INV-02"
	d.Findings = []warder.Finding{{Rule: "r", Evidence: "saw " + argument, Pointer: "/params/arguments/password"}}
	refused(x, d)

	uri := call(t, 0, `{}`)
	uri.Request = decode(t, `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"https://bob:`+header+`@files.example/a?sig=`+argument+`#`+meta+`"}}`)
	uri.Inbound = uri.Request

	token := call(t, 0, `{}`)
	token.Request = decode(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ghp_0123456789abcdefghijABCDEFGHIJ012345"}}`)
	token.Failure = warder.Fail(warder.CodeUpstreamFailed, "x", os.ErrDeadlineExceeded)

	dir := t.TempDir()
	cfg := testConfig()
	cfg.Capture.Enabled = true
	l := openLog(t, dir, cfg)
	i := &intent{log: l, now: time.Now}
	r := newRecorder(l)
	for _, x := range []*warder.Exchange{x, uri, token} {
		if d, err := i.Intercept(t.Context(), x); err != nil || d.Verdict != warder.Pass {
			t.Fatalf("intent: %+v, %v", d, err)
		}
		if err := r.Record(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	body, err := (&Reader{dir: dir}).Body(x.ID)
	if err != nil || !bytes.Equal(body, x.Inbound.Raw) {
		t.Fatalf("captured body: %v", err)
	}
	files := 0
	err = fs.WalkDir(os.DirFS(dir), ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(filepath.Join(dir, p))
		for _, s := range []string{argument, header, result, meta, "ghp_0123"} {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s holds %q", p, s)
			}
		}
		return err
	})
	if err != nil || files < 8 {
		t.Errorf("searched %d files, %v", files, err)
	}
	if n := len(events(t, dir, Filter{})); n < 6 {
		t.Errorf("%d events searched, want at least 6", n)
	}
}

func testFlood(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir, testConfig())
	r := newRecorder(l)
	clock := time.Now()
	r.now = func() time.Time { return clock }
	const flood = unidentifiedPerSecond + 300
	for range flood {
		x := refused(call(t, 0, `{}`), warder.Decision{Control: "IAM-05", Verdict: warder.Challenge, Code: warder.CodeUnauthenticated, Reason: "token_missing"})
		x.Principal = nil
		if err := r.Record(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	known := refused(call(t, 0, `{}`), warder.Refuse(warder.CodeDenied, "no", ""))
	if err := r.Record(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "summary", func() bool {
		return len(events(t, dir, Filter{Type: warder.EventAuth, Outcome: warder.OutcomeRefused})) > unidentifiedPerSecond
	}) // a slow machine gets more than one summary
	closeLog(t, l)
	if n := len(events(t, dir, Filter{Type: warder.EventExchange})); n != unidentifiedPerSecond+1 {
		t.Errorf("%d exchanges recorded, want %d and the one of a known principal", n, unidentifiedPerSecond)
	}
	all := events(t, dir, Filter{Type: warder.EventAuth})
	last := all[len(all)-1]
	if last.Reason != "refusals_suppressed" && all[len(all)-2].Reason != "refusals_suppressed" {
		t.Errorf("no summary of what was suppressed: %+v", last)
	}
	if got := l.Stats().Suppressed; got != 300 {
		t.Errorf("%d suppressed, want 300", got)
	}
}

func testRecorderWithoutStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := testConfig()
	cfg.Queue = 64 << 10
	l := openLog(t, dir, cfg)
	r := newRecorder(l)
	if err := os.Rename(walOf(dir), walOf(dir)+".away"); err != nil {
		t.Fatal(err)
	}
	var failed int
	for range 500 {
		if r.Record(t.Context(), call(t, 0, `{}`)) != nil {
			failed++
		}
	}
	if failed == 0 || failed == 500 {
		t.Fatalf("%d of 500 records failed; want a full queue after some", failed)
	}
	if err := os.Rename(walOf(dir)+".away", walOf(dir)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "report of lost records", func() bool {
		for _, e := range events(t, dir, Filter{Type: warder.EventLifecycle}) {
			if e.Reason == "records_lost" {
				return true
			}
		}
		return false
	})
	closeLog(t, l)
	if n := len(events(t, dir, Filter{Type: warder.EventExchange})); n != 500-failed {
		t.Errorf("%d exchanges in the trail, want the %d that were queued", n, 500-failed)
	}
}
