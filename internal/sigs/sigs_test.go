package sigs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Keys of RFC 9421 appendix B.1.
const (
	rfcEd25519Private = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
`
	rfcEd25519Public = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----
`
	rfcP256Public = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf
w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==
-----END PUBLIC KEY-----
`
)

// rfcRequest is the request of RFC 9421 appendix B.2.
func rfcRequest() *Message {
	return &Message{
		Method: http.MethodPost, TargetURI: "https://example.com/foo?param=Value&Pet=dog",
		Header: http.Header{
			"Date":           {"Tue, 20 Apr 2021 02:07:55 GMT"},
			"Content-Type":   {"application/json"},
			"Content-Digest": {"sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"},
			"Content-Length": {"18"},
		},
	}
}

func rfcResponse() *Message {
	return &Message{
		Status: http.StatusOK, Request: rfcRequest(),
		Header: http.Header{
			"Date":           {"Tue, 20 Apr 2021 02:07:56 GMT"},
			"Content-Type":   {"application/json"},
			"Content-Digest": {"sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:"},
			"Content-Length": {"23"},
		},
	}
}

// verifyRaw checks a signature as the standard's appendix shows it, without the rules of Warder.
func verifyRaw(t *testing.T, m *Message, input, signature, public string) {
	t.Helper()
	in, err := parseDictionary(input)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := parseDictionary(signature)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey("k", []byte(public))
	if err != nil {
		t.Fatal(err)
	}
	text, err := base(m, &in[0].item)
	if err != nil {
		t.Fatal(err)
	}
	b, ok := sig[0].item.value.([]byte)
	if !ok || !key.verify(text, b) {
		t.Fatalf("the signature of the standard does not verify over\n%s", text)
	}
	b[3] ^= 1
	if key.verify(text, b) {
		t.Fatal("a changed signature verifies")
	}
}

func TestVectorsOfTheStandard(t *testing.T) {
	t.Run("B.2.6 ed25519", func(t *testing.T) {
		input := `sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`
		signature := `sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:`
		verifyRaw(t, rfcRequest(), input, signature, rfcEd25519Public)
		s, err := NewSigner("test-key-ed25519", []byte(rfcEd25519Private))
		if err != nil {
			t.Fatal(err)
		}
		in, err := parseDictionary(input)
		if err != nil {
			t.Fatal(err)
		}
		text, err := base(rfcRequest(), &in[0].item)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.sign(text) // Ed25519 is deterministic
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(signature, "sig-b26="+string(appendBare(nil, got))); diff != "" {
			t.Errorf("signature differs (-want +got):\n%s", diff)
		}
	})
	t.Run("B.2.4 ecdsa-p256-sha256", func(t *testing.T) {
		verifyRaw(t, rfcResponse(),
			`sig-b24=("@status" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-ecc-p256"`,
			`sig-b24=:wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==:`, rfcP256Public)
	})
	t.Run("content digests of appendix B.2", func(t *testing.T) {
		if err := CheckDigest(rfcRequest().Header["Content-Digest"], []byte(`{"hello": "world"}`)); err != nil {
			t.Error(err)
		}
		if err := CheckDigest(rfcResponse().Header["Content-Digest"], []byte(`{"message": "good dog"}`)); err != nil {
			t.Error(err)
		}
	})
}

func TestComponents(t *testing.T) {
	m := rfcResponse()
	m.Header["X-Lines"] = []string{" a ", "b\t"}
	m.Header["Priority"] = []string{"u=1,   i ,a=(1   2);x"}
	for _, tt := range []struct{ input, want string }{
		{`("@status")`, `"@status": 200`},
		{`("@method";req)`, `"@method";req: POST`},
		{`("@authority";req)`, `"@authority";req: example.com`},
		{`("@target-uri";req)`, `"@target-uri";req: https://example.com/foo?param=Value&Pet=dog`},
		{`("@request-target";req)`, `"@request-target";req: /foo?param=Value&Pet=dog`},
		{`("@query";req)`, `"@query";req: ?param=Value&Pet=dog`},
		{`("x-lines")`, `"x-lines": a, b`},
		{`("priority";sf)`, `"priority";sf: u=1, i, a=(1 2);x`},
		{`("priority";key="a")`, `"priority";key="a": (1 2);x`},
		{`("@method")`, ""},               // of a response
		{`("x-absent")`, ""},              //
		{`("X-Lines")`, ""},               // component names are lower case
		{`("x-lines" "x-lines")`, ""},     // twice
		{`("x-lines";sf)`, ""},            // type not known
		{`("x-lines";bs)`, ""},            // not supported
		{`("@status";key="a")`, ""},       //
		{`("@signature-params")`, ""},     // RFC 9421 section 2.5
		{`("priority";key="zz")`, ""},     //
		{`(1)`, ""},                       //
		{`("@query-param";name="a")`, ""}, // not supported
	} {
		in, err := parseDictionary("s=" + tt.input)
		if err != nil {
			t.Fatalf("%s: %v", tt.input, err)
		}
		b, err := base(m, &in[0].item)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%s: built %q, want an error", tt.input, b)
			}
			continue
		}
		if got, _, _ := strings.Cut(string(b), "\n"); err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.input, got, err, tt.want)
		}
	}
}

func TestStructuredFields(t *testing.T) {
	for _, s := range []string{
		`a=1, b=-15, c=1.5, d="x\"y\\", e=tok/en:*, f=:aGk=:, g=?0, h`, `h;p;q=?0`, `i=(1 "a";x tok);y=2`, `j=()`,
		`k=@1659578233`, `l=%"f%c3%bc%22"`, `m=-0.001`, ``,
	} {
		d, err := parseDictionary(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		again, err := parseDictionary(serialise(d))
		if err != nil || !cmp.Equal(d, again, cmp.AllowUnexported(member{}, item{}, param{})) {
			t.Errorf("%q: serialised as %q, which reads otherwise: %v", s, serialise(d), err)
		}
	}
	for _, s := range []string{
		`A=1`, `a=`, `a=1,`, `a=1 b=2`, `a=1, a=2`, `a=1;p=1;p=2`, `a=1234567890123456`, `a=1.`, `a=1.2345`, `a=1234567890123.1`,
		`a="x`, `a="\x"`, "a=\"\x7f\"", `a=:a:`, `a=:aGk`, `a=?2`, `a=(1 2`, `a=(1"x")`, `a=@1.5`, `a=%"%C3"`, `a=%"%ff"`, `a=%x`, "a=\u00fc",
		`a=` + strings.Repeat("1", 20), strings.Repeat("a", maxField+1), "a=\"\n\"", `a=--1`, `a=-`,
	} {
		if d, err := parseDictionary(s); !errors.Is(err, ErrField) {
			t.Errorf("%.40q: read as %v, want an error", s, d)
		}
	}
}

func serialise(d []member) string {
	var b []byte
	for i := range d {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(append(b, d[i].key...), '=')
		b = appendItem(b, &d[i].item)
	}
	return string(b)
}

func FuzzStructuredField(f *testing.F) {
	for _, s := range []string{`sig1=("@method" "a";sf);created=1;keyid="x"`, `a=:aGk=:;b, c=?0, d=1.5`, `l=%"f%c3%bc"`, `a=@5`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDictionary(s)
		if err != nil {
			return
		}
		again, err := parseDictionary(serialise(d))
		if err != nil || !cmp.Equal(d, again, cmp.AllowUnexported(member{}, item{}, param{})) {
			t.Fatalf("%q: serialised as %q: %v", s, serialise(d), err)
		}
	})
}

func TestContentDigest(t *testing.T) {
	body := []byte(`{"jsonrpc":"2.0"}`)
	good := ContentDigest(body)
	for _, tt := range []struct {
		name  string
		lines []string
		want  error
	}{
		{"own", []string{good}, nil},
		{"with one that is not known", []string{"md5=:AAAA:", good}, nil},
		{"only one that is not known", []string{"md5=:AAAA:"}, ErrDigest},
		{"none", nil, ErrDigest},
		{"of another body", []string{ContentDigest([]byte("x"))}, ErrDigest},
		{"one right, one wrong", []string{good, "sha-512=:AAAA:"}, ErrDigest},
		{"not bytes", []string{`sha-256="x"`}, ErrField},
	} {
		if err := CheckDigest(tt.lines, body); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// signers makes one signer of each algorithm.
func signers(tb testing.TB) []*Signer {
	tb.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	var out []*Signer
	for _, private := range []any{ed, ec} {
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			tb.Fatal(err)
		}
		s, err := NewSigner("peer-1", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

func keysOf(s *Signer) func(string) (Key, bool) {
	return func(id string) (Key, bool) { return s.Key(), id == s.id }
}

func TestHTTPSignature(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	rules := Rules{Cover: []string{"@method", "@target-uri", "authorization", "content-digest"}, Window: time.Minute, Skew: 5 * time.Second, Tag: Tag}
	for _, s := range signers(t) {
		sign := func(t *testing.T) *http.Request {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://peer.example/mcp/files?x=1", strings.NewReader(`{"id":1}`))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer t")
			if err := s.SignRequest(r, now); err != nil {
				t.Fatal(err)
			}
			return r
		}
		of := func(r *http.Request) *Message {
			return &Message{Method: r.Method, TargetURI: r.URL.String(), Header: r.Header}
		}
		other := signers(t)[0]
		for _, tt := range []struct {
			name   string
			change func(*http.Request, *Message)
			keys   func(string) (Key, bool)
			after  time.Duration
			want   error
		}{
			{name: "good"},
			{name: "other header", change: func(r *http.Request, _ *Message) { r.Header.Set("Accept", "x") }},
			{name: "method", change: func(_ *http.Request, m *Message) { m.Method = http.MethodGet }, want: ErrSignature},
			{name: "target", change: func(_ *http.Request, m *Message) { m.TargetURI = "https://peer.example/mcp/mail?x=1" }, want: ErrSignature},
			{name: "token", change: func(r *http.Request, _ *Message) { r.Header.Set("Authorization", "Bearer u") }, want: ErrSignature},
			{name: "digest", change: func(r *http.Request, _ *Message) { r.Header.Set("Content-Digest", ContentDigest(nil)) }, want: ErrSignature},
			{name: "digest removed", change: func(r *http.Request, _ *Message) { r.Header.Del("Content-Digest") }, want: ErrComponent},
			{name: "parameters", change: func(r *http.Request, _ *Message) {
				r.Header.Set("Signature-Input", strings.Replace(r.Header.Get("Signature-Input"), "expires=17", "expires=18", 1))
			}, want: ErrSignature},
			{name: "not covered", change: func(r *http.Request, _ *Message) {
				r.Header.Set("Signature-Input", strings.Replace(r.Header.Get("Signature-Input"), ` "authorization"`, "", 1))
			}, want: ErrUncovered},
			{name: "another algorithm", change: func(r *http.Request, _ *Message) {
				r.Header.Set("Signature-Input", strings.Replace(r.Header.Get("Signature-Input"), s.Key().Algorithm, "hmac-sha256", 1))
			}, want: ErrParameter},
			{name: "no nonce", change: func(r *http.Request, _ *Message) {
				r.Header.Set("Signature-Input", strings.Replace(r.Header.Get("Signature-Input"), ";nonce=", ";nounce=", 1))
			}, want: ErrParameter},
			{name: "twice", change: func(r *http.Request, _ *Message) {
				r.Header.Add("Signature-Input", strings.Replace(r.Header.Get("Signature-Input"), "warder=", "second=", 1))
			}, want: ErrParameter},
			{name: "signature missing", change: func(r *http.Request, _ *Message) { r.Header.Del("Signature") }, want: ErrUnsigned},
			{name: "unsigned", change: func(r *http.Request, _ *Message) { r.Header.Del("Signature-Input") }, want: ErrUnsigned},
			{name: "key of another", keys: func(string) (Key, bool) { return other.Key(), true }, want: nil},
			{name: "unknown key", keys: func(string) (Key, bool) { return Key{}, false }, want: ErrUnsigned},
			{name: "old", after: time.Minute, want: ErrStale},
			{name: "nearly old", after: 59 * time.Second},
			{name: "from the future", after: -6 * time.Second, want: ErrStale},
			{name: "clock a little behind", after: -4 * time.Second},
		} {
			t.Run(s.Key().Algorithm+" "+tt.name, func(t *testing.T) {
				r := sign(t)
				m := of(r)
				if tt.change != nil {
					tt.change(r, m)
				}
				keys := keysOf(s)
				want := tt.want
				if tt.keys != nil {
					keys = tt.keys
				}
				if tt.name == "key of another" {
					if want = ErrSignature; s.Key().Algorithm != other.Key().Algorithm {
						want = ErrParameter
					}
				}
				v, err := Verify(m, rules, keys, now.Add(tt.after))
				if !errors.Is(err, want) || want == nil && err != nil {
					t.Fatalf("got %v, want %v", err, want)
				}
				if err == nil && (v.KeyID != s.id || v.Nonce == "" || !v.Until.Equal(now.Add(time.Minute))) {
					t.Errorf("verified as %+v", v)
				}
			})
		}
	}
}

func decode(tb testing.TB, raw string) *warder.Message {
	tb.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestEnvelope(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	request := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"pay","arguments":{"to":9007199254740993,"amount":10},"_meta":{"progressToken":1}}}`
	for _, s := range signers(t) {
		check := Check{Keys: keysOf(s), Window: time.Minute, Skew: 5 * time.Second, Audience: "https://gate.example/mcp/bank"}
		signed := func(t *testing.T, raw, audience string, of *warder.Message) *warder.Message {
			t.Helper()
			m := decode(t, raw)
			e, err := s.Envelope(m, audience, of, now, 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			out, err := Attach(m, e, wire.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		for _, raw := range []string{
			request, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, `{"jsonrpc":"2.0","id":"a","method":"ping","params":{}}`,
			`{"jsonrpc":"2.0","id":"a","method":"ping","params":{"_meta":{}}}`,
		} {
			m := signed(t, raw, check.Audience, nil)
			e, err := check.Verify(m, now)
			if err != nil || e.KeyID != "peer-1" || !e.Until.Equal(now.Add(30*time.Second)) {
				t.Fatalf("%s: %+v, %v", m.Raw, e, err)
			}
		}
		first := decode(t, request)
		second := decode(t, strings.Replace(request, `"id":7`, `"id":8`, 1))
		answer := `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`
		for _, tt := range []struct {
			name  string
			m     *warder.Message
			of    *warder.Message
			after time.Duration
			aud   string
			want  error
		}{
			{name: "other spelling", m: decode(t, strings.ReplaceAll(string(signed(t, request, check.Audience, nil).Raw), `"amount":10`, `"amount": 1e1`))},
			{name: "argument", m: decode(t, strings.ReplaceAll(string(signed(t, request, check.Audience, nil).Raw), `"amount":10`, `"amount":11`)), want: ErrDigest},
			{name: "digit beyond double precision", m: decode(t, strings.ReplaceAll(string(signed(t, request, check.Audience, nil).Raw), `740993`, `740992`)), want: ErrDigest},
			{name: "id", m: decode(t, strings.ReplaceAll(string(signed(t, request, check.Audience, nil).Raw), `"id":7`, `"id":8`)), want: ErrDigest},
			{name: "meta", m: decode(t, strings.ReplaceAll(string(signed(t, request, check.Audience, nil).Raw), `"progressToken":1`, `"progressToken":2`)), want: ErrDigest},
			{name: "audience", m: signed(t, request, "https://gate.example/mcp/files", nil), want: ErrParameter},
			{name: "envelope time", m: decode(t, strings.ReplaceAll(string(signed(t, request, check.Audience, nil).Raw), `"expires":1700000030`, `"expires":1700000050`)), want: ErrSignature},
			{name: "unknown member", m: decode(t, strings.ReplaceAll(string(signed(t, request, check.Audience, nil).Raw), `"keyid"`, `"kid"`)), want: ErrField},
			{name: "unsigned", m: decode(t, request), want: ErrUnsigned},
			{name: "stale", m: signed(t, request, check.Audience, nil), after: 30 * time.Second, want: ErrStale},
			{name: "future", m: signed(t, request, check.Audience, nil), after: -6 * time.Second, want: ErrStale},
			{name: "answer", m: signed(t, answer, "", first), of: first, aud: "-"},
			{name: "answer of another request", m: signed(t, answer, "", second), of: first, aud: "-", want: ErrDigest},
			{name: "request as answer", m: signed(t, answer, "", nil), of: first, aud: "-", want: ErrDigest},
			{name: "answer changed", m: decode(t, strings.Replace(string(signed(t, answer, "", first).Raw), `[]`, `[1]`, 1)), of: first, aud: "-", want: ErrDigest},
		} {
			t.Run(s.Key().Algorithm+" "+tt.name, func(t *testing.T) {
				c := check
				c.Request = tt.of
				if tt.aud == "-" {
					c.Audience = ""
				}
				if _, err := c.Verify(tt.m, now.Add(tt.after)); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		}
	}
}

func TestKeys(t *testing.T) {
	for _, text := range []string{"", "x", rfcEd25519Private, rfcEd25519Public + rfcP256Public} {
		if _, err := ParseKey("k", []byte(text)); !errors.Is(err, ErrKey) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
	if _, err := NewSigner("k", []byte(rfcEd25519Public)); !errors.Is(err, ErrKey) {
		t.Error("a public key signs")
	}
	if _, err := ParseKey("", []byte(rfcEd25519Public)); err == nil {
		t.Error("a key without id is accepted")
	}
}

func BenchmarkEnvelope(b *testing.B) {
	s := signers(b)[0]
	now := time.Now()
	m := decode(b, `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"pay","arguments":{"to":"bob","amount":10}}}`)
	e, err := s.Envelope(m, "a", nil, now, time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	if m, err = Attach(m, e, wire.Limits{}); err != nil {
		b.Fatal(err)
	}
	c := Check{Keys: keysOf(s), Window: time.Minute, Audience: "a"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Verify(m, now); err != nil {
			b.Fatal(err)
		}
	}
}
