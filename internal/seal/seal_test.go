package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

// fixed keys, so that tokens of one box are strange to another
func testKey(b byte) []byte { return bytes.Repeat([]byte{b}, KeySize) }

func mustBox(tb testing.TB, keys ...[]byte) *Box {
	tb.Helper()
	b, err := New(keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func noon() time.Time { return time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC) }

func claims() Claims {
	return Claims{Purpose: "request_state", Principal: "alice", Digest: [32]byte{1, 2, 3}, NotAfter: noon().Add(time.Minute)}
}

func mustSeal(tb testing.TB, b *Box, c Claims, payload string) string {
	tb.Helper()
	token, err := b.Seal(c, []byte(payload))
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func TestOpen(t *testing.T) {
	t.Parallel()
	b := mustBox(t, testKey(1))
	token := mustSeal(t, b, claims(), "payload")
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "w1."))
	if err != nil {
		t.Fatal(err)
	}
	spell := func(raw []byte) string { return "w1." + base64.RawURLEncoding.EncodeToString(raw) }
	flip := func(i int) string {
		other := bytes.Clone(raw)
		other[(i+len(raw))%len(raw)] ^= 1
		return spell(other)
	}
	change := func(f func(*Claims)) Claims { c := claims(); f(&c); return c }
	for _, c := range []struct {
		name  string
		token string
		now   time.Time
		want  Claims
		err   error
	}{
		{"good", token, noon(), claims(), nil},
		{"last moment", token, noon().Add(time.Minute - 1), claims(), nil},
		{"end of opener is ignored", token, noon(), change(func(c *Claims) { c.NotAfter = time.Time{} }), nil},
		{"expired", token, noon().Add(time.Minute), claims(), ErrExpired},
		{"other principal", token, noon(), change(func(c *Claims) { c.Principal = "mallory" }), ErrPrincipal},
		{"no principal", token, noon(), change(func(c *Claims) { c.Principal = "" }), ErrPrincipal},
		{"other digest", token, noon(), change(func(c *Claims) { c.Digest[31] = 1 }), ErrDigest},
		{"zero digest", token, noon(), change(func(c *Claims) { c.Digest = [32]byte{} }), ErrDigest},
		{"other purpose", token, noon(), change(func(c *Claims) { c.Purpose = "task" }), ErrPurpose},
		{"no purpose", token, noon(), change(func(c *Claims) { c.Purpose = "" }), ErrPurpose},
		{"tag changed", flip(-1), noon(), claims(), ErrTampered},
		{"claims changed", flip(headerSize + 20), noon(), claims(), ErrTampered},
		{"salt changed", flip(keyIDSize), noon(), claims(), ErrTampered},
		{"key id changed", flip(0), noon(), claims(), ErrUnknownKey},
		{"cut", spell(raw[:len(raw)-4]), noon(), claims(), ErrTampered},
		{"cut to nothing", "w1.", noon(), claims(), ErrMalformed},
		{"cut to the header", token[:60], noon(), claims(), ErrMalformed},
		{"empty", "", noon(), claims(), ErrMalformed},
		{"other version", "w2." + token[3:], noon(), claims(), ErrMalformed},
		{"padded", token + "=", noon(), claims(), ErrMalformed},
		{"line break", token[:50] + "\n" + token[50:], noon(), claims(), ErrMalformed},
		{"line break at the end", token + "\r\n", noon(), claims(), ErrMalformed},
		{"longer", token + "AAAA", noon(), claims(), ErrTampered},
		{"too long", "w1." + strings.Repeat("A", maxToken), noon(), claims(), ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			payload, id, err := b.Open(c.token, c.now, c.want)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("Open: %v, want %v", err, c.err)
			}
			if good := string(payload) == "payload" && id != ""; good != (err == nil) || err != nil && payload != nil {
				t.Errorf("payload %q, id %q, %v", payload, id, err)
			}
		})
	}
}

// TestOpenStrayBits: the last character of Base64 has bits that mean nothing; they must be zero.
func TestOpenStrayBits(t *testing.T) {
	t.Parallel()
	b := mustBox(t, testKey(1))
	for pad := range 3 {
		token := mustSeal(t, b, claims(), strings.Repeat("x", pad))
		if len(token[3:])%4 == 0 {
			continue
		}
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		last := strings.IndexByte(alphabet, token[len(token)-1])
		other := token[:len(token)-1] + string(alphabet[last+1])
		if _, _, err := b.Open(other, noon(), claims()); !errors.Is(err, ErrMalformed) {
			t.Errorf("a second spelling of one token opens: %v", err)
		}
	}
}

func TestKeyRing(t *testing.T) {
	t.Parallel()
	before, now, later := mustBox(t, testKey(1)), mustBox(t, testKey(2), testKey(1)), mustBox(t, testKey(2))
	token := mustSeal(t, before, claims(), "p")
	if _, _, err := now.Open(token, noon(), claims()); err != nil {
		t.Errorf("token of the previous key: %v", err)
	}
	if _, _, err := later.Open(token, noon(), claims()); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("token of a removed key: %v", err)
	}
	if _, _, err := before.Open(mustSeal(t, now, claims(), "p"), noon(), claims()); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("new tokens are not sealed with the first key: %v", err)
	}
	for name, keys := range map[string][][]byte{
		"none": nil, "short": {testKey(1)[:31]}, "long": {append(testKey(1), 0)}, "twice": {testKey(1), testKey(1)}, "nil": {nil},
	} {
		if _, err := New(keys...); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if bytes.Equal(NewKey(), NewKey()) || len(NewKey()) != KeySize {
		t.Error("NewKey is not random or of another size")
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	b := mustBox(t, testKey(1))
	for name, change := range map[string]func(*Claims){
		"no purpose": func(c *Claims) { c.Purpose = "" }, "no principal": func(c *Claims) { c.Principal = "" },
		"no end": func(c *Claims) { c.NotAfter = time.Time{} }, "long id": func(c *Claims) { c.ID = strings.Repeat("x", 65) },
		"id with U+0000": func(c *Claims) { c.ID = "a\x00b" },
	} {
		c := claims()
		change(&c)
		if _, err := b.Seal(c, nil); !errors.Is(err, ErrClaims) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Seal(claims(), make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooBig) {
		t.Errorf("large payload: %v", err)
	}
	big := mustSeal(t, b, claims(), strings.Repeat("x", MaxPayload))
	if payload, _, err := b.Open(big, noon(), claims()); err != nil || len(payload) != MaxPayload {
		t.Errorf("greatest payload: %d, %v", len(payload), err)
	}
}

func TestIDsAndSecrecy(t *testing.T) {
	t.Parallel()
	b := mustBox(t, testKey(1))
	one, two := mustSeal(t, b, claims(), "top secret"), mustSeal(t, b, claims(), "top secret")
	_, idOne, _ := b.Open(one, noon(), claims())
	_, idTwo, _ := b.Open(two, noon(), claims())
	if one == two || idOne == idTwo {
		t.Error("two tokens are alike")
	}
	raw, err := base64.RawURLEncoding.DecodeString(one[3:])
	if err != nil || bytes.Contains(raw, []byte("secret")) || bytes.Contains(raw, []byte("alice")) {
		t.Errorf("the token shows what it holds: %v", err)
	}
	c := claims()
	c.ID = "chosen"
	if _, id, err := b.Open(mustSeal(t, b, c, "\x00p\x00"), noon(), claims()); id != "chosen" || err != nil {
		t.Errorf("id %q, %v", id, err)
	}
}

// FuzzSealedState: no text opens but what was sealed, whatever the claims, and sealed text opens.
func FuzzSealedState(f *testing.F) {
	b := mustBox(f, testKey(1), testKey(2))
	f.Fuzz(func(t *testing.T, token, principal string, payload []byte) {
		if got, _, err := b.Open(token, noon(), claims()); err == nil {
			t.Fatalf("opened %q: %q", token, got)
		}
		c := claims()
		c.Principal = principal
		sealed, err := b.Seal(c, payload)
		if principal == "" || len(payload) > MaxPayload {
			if err == nil {
				t.Fatal("sealed what must not be")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := b.Open(sealed, noon(), c)
		if err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("sealed %q, got %q, %v", payload, got, err)
		}
		other := c
		other.Principal += "x"
		if _, _, err := b.Open(sealed, noon(), other); !errors.Is(err, ErrPrincipal) {
			t.Fatalf("another principal: %v", err)
		}
		if i := strings.IndexFunc(token, func(r rune) bool { return r != 0 }); i >= 0 {
			mixed := []byte(sealed)
			mixed[len(token)%len(mixed)] ^= token[i]
			if got, _, err := b.Open(string(mixed), noon(), c); err == nil && string(mixed) != sealed {
				t.Fatalf("a changed token opens: %q", got)
			}
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	box := mustBox(b, testKey(1))
	payload := bytes.Repeat([]byte("x"), 200)
	b.ReportAllocs()
	for b.Loop() {
		token, err := box.Seal(claims(), payload)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := box.Open(token, noon(), claims()); err != nil {
			b.Fatal(err)
		}
	}
}
