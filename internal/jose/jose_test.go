package jose

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func part(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func TestParse(t *testing.T) {
	t.Parallel()
	const head, body = `{"alg":"ES256","kid":"k","typ":"application/AT+JWT"}`, `{"iss":"i","a":{"b":[1,{"c":null}]}}`
	deep := strings.Repeat(`{"a":`, 10) + "1" + strings.Repeat("}", 10)
	tests := []struct {
		name, raw string
		want      error
	}{
		{"good", part(head) + "." + part(body) + ".c2ln", nil},
		{"two parts", part(head) + "." + part(body), ErrMalformed},
		{"four parts", part(head) + "." + part(body) + ".c2ln.c2ln", ErrMalformed},
		{"empty signature", part(head) + "." + part(body) + ".", ErrMalformed},
		{"padding", part(head) + "." + part(body) + ".c2lnbg==", ErrMalformed},
		{"line break", part(head) + "." + part(body) + ".c2\nln", ErrMalformed},
		{"stray bits", part(head) + "." + part(body) + ".c2ln" + "aB", ErrMalformed},
		{"standard alphabet", part(head) + "." + part(body) + ".+/ln", ErrMalformed},
		{"none", part(`{"alg":"none"}`) + "." + part(body) + ".c2ln", ErrAlgorithm},
		{"None", part(`{"alg":"None"}`) + "." + part(body) + ".c2ln", ErrAlgorithm},
		{"symmetric", part(`{"alg":"HS256"}`) + "." + part(body) + ".c2ln", ErrAlgorithm},
		{"no algorithm", part(`{}`) + "." + part(body) + ".c2ln", ErrAlgorithm},
		{"Alg is not alg", part(`{"Alg":"ES256"}`) + "." + part(body) + ".c2ln", ErrAlgorithm},
		{"algorithm list", part(`{"alg":["ES256"]}`) + "." + part(body) + ".c2ln", ErrMalformed},
		{"crit", part(`{"alg":"ES256","crit":[]}`) + "." + part(body) + ".c2ln", ErrCritical},
		{"detached", part(`{"alg":"ES256","b64":false}`) + "." + part(body) + ".c2ln", ErrCritical},
		{"compressed", part(`{"alg":"ES256","zip":"DEF"}`) + "." + part(body) + ".c2ln", ErrCritical},
		{"embedded key", part(`{"alg":"ES256","jwk":{}}`) + "." + part(body) + ".c2ln", ErrEmbeddedKey},
		{"header twice", part(`{"alg":"ES256","alg":"ES256"}`) + "." + part(body) + ".c2ln", ErrDuplicate},
		{"claim twice", part(head) + "." + part(`{"aud":"a","aud":"b"}`) + ".c2ln", ErrDuplicate},
		{"claim twice by escape", part(head) + "." + part(`{"aud":"a","\u0061ud":"b"}`) + ".c2ln", ErrDuplicate},
		{"claim twice inside", part(head) + "." + part(`{"act":{"sub":"a","sub":"b"}}`) + ".c2ln", ErrDuplicate},
		{"data after", part(head) + "." + part(`{} {}`) + ".c2ln", ErrMalformed},
		{"array", part(head) + "." + part(`[]`) + ".c2ln", ErrMalformed},
		{"bad UTF-8", part(head) + "." + part("{\"a\":\"\xff\"}") + ".c2ln", ErrMalformed},
		{"deep", part(head) + "." + part(deep) + ".c2ln", ErrMalformed},
		{"large", part(head) + "." + strings.Repeat("A", MaxToken) + ".c2ln", ErrTooLarge},
		{"large header", strings.Repeat("A", maxHeader+4) + ".AA.c2ln", ErrTooLarge},
		{"JSON serialization", `{"payload":"e30","signatures":[]}`, ErrMalformed},
		{"encrypted", part(`{"alg":"dir","enc":"A256GCM"}`) + ".e30.e30.e30.e30", ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			token, err := Parse(tt.raw)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error = %v, want %v", err, tt.want)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(Header{Algorithm: "ES256", KeyID: "k", Type: "at+jwt"}, token.Header); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
		})
	}
}

// signed makes a token with any key and algorithm, as a foreign issuer would.
func signed(tb testing.TB, alg jose.SignatureAlgorithm, key any, kid string) string {
	tb.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", kid))
	if err != nil {
		tb.Fatal(err)
	}
	sig, err := s.Sign([]byte(`{"iss":"i","exp":4000000000}`))
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := sig.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func setOf(tb testing.TB, keys ...jose.JSONWebKey) []byte {
	tb.Helper()
	doc, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

func TestVerifyEveryAlgorithm(t *testing.T) {
	t.Parallel()
	ec := map[string]*ecdsa.PrivateKey{}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		ec[alg] = k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]any{"EdDSA": ed, "PS256": rs, "PS384": rs, "PS512": rs, "RS256": rs, "RS384": rs, "RS512": rs}
	for alg, k := range ec {
		keys[alg] = k
	}
	for _, alg := range Algorithms() {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			pub := jose.JSONWebKey{Key: keys[alg], KeyID: alg}
			set, err := ParseKeySet(setOf(t, pub.Public()))
			if err != nil {
				t.Fatal(err)
			}
			token, err := Parse(signed(t, jose.SignatureAlgorithm(alg), keys[alg], alg))
			if err != nil {
				t.Fatal(err)
			}
			key, ok := set.Key(token.Header.KeyID)
			if !ok {
				t.Fatal("key not found")
			}
			if err := token.Verify(key, []string{alg}); err != nil {
				t.Errorf("verify: %v", err)
			}
			if err := token.Verify(key, []string{"other"}); !errors.Is(err, ErrAlgorithm) {
				t.Errorf("algorithm not allowed: error = %v, want %v", err, ErrAlgorithm)
			}
			if err := token.Verify(Key{}, []string{alg}); !errors.Is(err, ErrAlgorithm) {
				t.Errorf("zero key: error = %v, want %v", err, ErrAlgorithm)
			}
			token.raw = token.raw[:len(token.raw)-8] + "AAAAAAAA"
			if err := token.Verify(key, []string{alg}); err == nil {
				t.Error("changed signature verified")
			}
		})
	}
	t.Run("a key verifies only its own alg", func(t *testing.T) {
		t.Parallel()
		pub := jose.JSONWebKey{Key: rs.Public(), KeyID: "r", Algorithm: "RS256"}
		set, err := ParseKeySet(setOf(t, pub))
		if err != nil {
			t.Fatal(err)
		}
		token, err := Parse(signed(t, jose.PS256, rs, "r"))
		if err != nil {
			t.Fatal(err)
		}
		key, _ := set.Key("r")
		if err := token.Verify(key, Algorithms()); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("error = %v, want %v", err, ErrAlgorithm)
		}
	})
}

func TestParseKeySet(t *testing.T) {
	t.Parallel()
	signer, err := NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	good, err := signer.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSuffix(strings.TrimPrefix(string(good), `{"keys":[`), `]}`)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weakSet := string(setOf(t, jose.JSONWebKey{Key: weak.Public(), KeyID: "w"}))
	tests := []struct {
		name, doc string
		ok        bool
	}{
		{"one key", string(good), true},
		{"foreign kinds beside", `{"keys":[{"kty":"oct","k":"c2VjcmV0"},{"kty":"AKP","alg":"ML-DSA-44"},` + key + `]}`, true},
		{"symmetric only", `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`, false},
		{"encryption only", `{"keys":[` + strings.Replace(key, `"use":"sig"`, `"use":"enc"`, 1) + `]}`, false},
		{"weak only", weakSet, false},
		{"same id twice", `{"keys":[` + key + `,` + key + `]}`, false},
		{"private key", `{"keys":[` + strings.Replace(key, `"kty"`, `"d":"AA","kty"`, 1) + `]}`, false},
		{"member twice", `{"keys":[` + strings.Replace(key, `"kty":"EC"`, `"kty":"EC","kty":"EC"`, 1) + `]}`, false},
		{"empty", `{"keys":[]}`, false},
		{"not JSON", `<html>`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := ParseKeySet([]byte(tt.doc))
			if (err == nil) != tt.ok {
				t.Fatalf("error = %v, want ok = %v", err, tt.ok)
			}
			if err != nil {
				return
			}
			if _, ok := set.Key(signer.KeyID()); !ok {
				t.Error("key not found by id")
			}
			if _, ok := set.Key(""); !ok {
				t.Error("the only key is not found without id")
			}
			if _, ok := set.Key("other"); ok {
				t.Error("another id finds a key")
			}
		})
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	var docs [2][]byte
	var ids [2]string
	for i := range docs {
		s, err := NewSigner()
		if err != nil {
			t.Fatal(err)
		}
		if docs[i], err = s.KeySet(); err != nil {
			t.Fatal(err)
		}
		ids[i] = s.KeyID()
	}
	now := time.Unix(1_000_000, 0)
	served, fetches, down := 0, 0, false
	src := NewSource(func(context.Context) ([]byte, error) {
		fetches++
		if down {
			return nil, errors.New("down")
		}
		return docs[served], nil
	}, Refresh{}, func() time.Time { return now })

	step := func(name, id string, want error, wantFetches int) {
		t.Helper()
		if _, err := src.Key(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("%s: error = %v, want %v", name, err, want)
		}
		if fetches != wantFetches {
			t.Errorf("%s: %d fetches, want %d", name, fetches, wantFetches)
		}
	}
	down = true
	step("issuer down at first", ids[0], ErrKeysUnavail, 1)
	step("pause after a failure", ids[0], ErrKeysUnavail, 1)
	down, now = false, now.Add(time.Minute)
	step("first fetch", ids[0], nil, 2)
	step("cached", ids[0], nil, 2)
	step("invented id within the pause", "x", ErrUnknownKey, 2)
	now = now.Add(time.Minute)
	step("invented id", "x", ErrUnknownKey, 3)
	step("invented id again", "y", ErrUnknownKey, 3)
	served, now = 1, now.Add(time.Minute)
	step("rotated", ids[1], nil, 4)
	step("old key is gone", ids[0], ErrUnknownKey, 4)
	down, now = true, now.Add(time.Hour)
	step("stale keys serve while the issuer is down", ids[1], nil, 5)
	now = now.Add(24 * time.Hour)
	step("too stale", ids[1], ErrKeysUnavail, 6)
	down, now = false, now.Add(time.Minute)
	step("back", ids[1], nil, 7)
}

func TestFromURL(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { hits.Add(1); _, _ = w.Write([]byte("{}")) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) })
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxKeySet+1)) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for path, ok := range map[string]bool{"/keys": true, "/moved": false, "/huge": false, "/none": false} {
		fetch, err := FromURL(srv.Client(), srv.URL+path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fetch(t.Context()); (err == nil) != ok {
			t.Errorf("%s: error = %v, want ok = %v", path, err, ok)
		}
	}
	if hits.Load() != 1 {
		t.Errorf("key set read %d times, want 1: a redirect was followed", hits.Load())
	}
	for _, bad := range []string{"http://idp.example/keys", "file:///etc/passwd", "https://u:p@idp.example/", "https://", "ftp://localhost/x"} {
		if _, err := FromURL(srv.Client(), bad); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestFromFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "keys.json")
	fetch := FromFile(name)
	if _, err := fetch(t.Context()); err == nil {
		t.Error("missing file was read")
	}
	if err := os.WriteFile(name, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := fetch(t.Context()); err != nil || string(got) != "{}" {
		t.Errorf("fetch = %q, %v", got, err)
	}
}

func TestOpenSigner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	first, err := OpenSigner(root, "key")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, want 0600", info.Mode().Perm())
	}
	again, err := OpenSigner(root, "key")
	if err != nil || again.KeyID() != first.KeyID() {
		t.Errorf("second open: %v, id %q, want %q", err, again.KeyID(), first.KeyID())
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.new-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if err := os.Chmod(filepath.Join(dir, "key"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSigner(root, "key"); !errors.Is(err, ErrKeyFileMode) {
		t.Errorf("readable by others: error = %v, want %v", err, ErrKeyFileMode)
	}
	if err := os.WriteFile(filepath.Join(dir, "junk"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSigner(root, "junk"); !errors.Is(err, ErrKeyFileShape) {
		t.Errorf("junk: error = %v, want %v", err, ErrKeyFileShape)
	}
	if _, err := OpenSigner(root, "../key"); err == nil {
		t.Error("a key outside the folder was opened")
	}
}

// FuzzJWS checks that no token is accepted that a trusted key did not sign, and that nothing panics.
func FuzzJWS(f *testing.F) {
	signer, err := NewSigner()
	if err != nil {
		f.Fatal(err)
	}
	doc, err := signer.KeySet()
	if err != nil {
		f.Fatal(err)
	}
	set, err := ParseKeySet(doc)
	if err != nil {
		f.Fatal(err)
	}
	good, err := signer.Sign("JWT", map[string]any{"iss": "i", "exp": 4000000000, "aud": []string{"a"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, s := range []string{"", "..", "a.b.c", part(`{"alg":"none"}`) + ".e30.", part(`{"alg":"ES256","crit":["b64"]}`) + ".e30.AA", strings.ToUpper(good)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		token, err := Parse(raw)
		if err != nil {
			if token != nil {
				t.Fatal("a token beside an error")
			}
			return
		}
		_ = token.Claims.CheckTimes(time.Unix(0, 0), Times{})
		for name := range token.Claims {
			_, _ = token.Claims.List(name)
			_, _ = token.Claims.Words(name)
			_, _ = token.Claims.Object(name)
			_, _ = token.Claims.Time(name)
		}
		key, ok := set.Key(token.Header.KeyID)
		if !ok {
			return
		}
		if err := token.Verify(key, Algorithms()); err == nil && raw != good {
			t.Fatalf("%q verifies and was never signed", raw)
		}
	})
}

// FuzzKeySet checks that key sets of any shape are judged without panic and never yield a key that
// verifies nothing.
func FuzzKeySet(f *testing.F) {
	signer, err := NewSigner()
	if err != nil {
		f.Fatal(err)
	}
	doc, err := signer.KeySet()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"},{"kty":"RSA","n":"AQ","e":"AQ"}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		set, err := ParseKeySet(doc)
		if err != nil {
			return
		}
		for id, k := range set.byID {
			if len(k.algs) == 0 {
				t.Fatalf("key %q is usable for nothing", id)
			}
		}
	})
}
