package jose

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"
)

// TestReadPlain: what is read in one pass means the same to the strict reader, and what that refuses is not
// read in one pass.
func TestReadPlain(t *testing.T) {
	t.Parallel()
	for text, plain := range map[string]bool{
		`{"jti":"a","htm":"POST","htu":"https://gate.example/mcp/a","iat":1700000000,"ath":"x","nonce":"n","content_digest":"c"}`: true,
		" {\t\"jti\" : \"a\" ,\r\n\"iat\" : 12 } ": true,
		`{"jti":"a","extra":"b","more":7}`:         true,
		`{"jti":"a","iat":99999999999}`:            true,
		`{"iat":999999999999}`:                     false, // beyond the year 9999
		`{"iat":012}`:                              false,
		`{"iat":0}`:                                false,
		`{"iat":-1}`:                               false,
		`{"iat":1.5}`:                              false,
		`{"iat":1e9}`:                              false,
		`{"iat":12a}`:                              false,
		`{"iat":"12"}`:                             false,
		`{"iat":null}`:                             false,
		`{"jti":7}`:                                false,
		`{"jti":null}`:                             false,
		`{"jti":{"a":"b"}}`:                        false,
		`{"jti":["a"]}`:                            false,
		`{"jti":true}`:                             false,
		`{"jti":"a","jti":"b"}`:                    false,
		`{"x":"a","x":"b"}`:                        false,
		`{"jt\u0069":"a"}`:                         false,
		`{"jti":"\n"}`:                             false,
		"{\"jti\":\"a\nb\"}":                       false,
		"{\"jti\":\"\xff\"}":                       false,
		`{"jti":"ä"}`:                              false,
		`{"jti":"a"}{}`:                            false,
		`{"jti":"a",}`:                             false,
		`{"jti":"a"`:                               false,
		`{"jti":"a}`:                               false,
		`{"jti" "a"}`:                              false,
		`{,"jti":"a"}`:                             false,
		`{}`:                                       false,
		`["jti"]`:                                  false,
		``:                                         false,
		`{` + strings.Repeat(`"a":1,`, 20) + `"b":1}`: false,
	} {
		if _, ok := readPlain([]byte(text)); ok != plain {
			t.Errorf("%q: read in one pass: %v, want %v", text, ok, plain)
		}
		sameClaims(t, []byte(text))
	}
}

// sameClaims compares the two readers.
func sameClaims(tb testing.TB, text []byte) {
	tb.Helper()
	got, ok := readPlain(text)
	if !ok {
		return
	}
	m, err := decodeStrict(text)
	if err != nil {
		tb.Fatalf("%q is read in one pass, but the strict reader says: %v", text, err)
	}
	want, err := claimsOfProof(m)
	if err != nil || !want.issued.Equal(got.issued) {
		tb.Fatalf("%q: iat %v, want %v, %v", text, got.issued, want.issued, err)
	}
	want.issued, got.issued = time.Time{}, time.Time{}
	if got != want {
		tb.Fatalf("%q: %+v, want %+v", text, got, want)
	}
	again, err := readProofClaims(base64.RawURLEncoding.EncodeToString(text))
	if again.issued = (time.Time{}); err != nil || again != want {
		tb.Fatalf("%q, encoded: %+v, %v, want %+v", text, again, err, want)
	}
}

// FuzzReadPlain: the two readers never disagree.
func FuzzReadPlain(f *testing.F) {
	f.Add([]byte(`{"jti":"a","htm":"POST","htu":"u","iat":17,"ath":"x","nonce":"n","content_digest":"c","z":1}`))
	f.Add([]byte(`{"jti":"a" , "iat":1.0}`))
	f.Fuzz(func(t *testing.T, text []byte) { sameClaims(t, text) })
}

func TestAppendASN1(t *testing.T) {
	t.Parallel()
	for _, n := range []string{"00", "01", "7f", "80", "ff", "0080", strings.Repeat("ff", 32), "7f" + strings.Repeat("00", 31), "80" + strings.Repeat("00", 31), "00ff" + strings.Repeat("11", 30)} {
		r, ok := new(big.Int).SetString(n, 16)
		if !ok {
			t.Fatal(n)
		}
		s := new(big.Int).Xor(r, big.NewInt(0x81))
		var signature [64]byte
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		want, err := asn1.Marshal([]*big.Int{r, s})
		if err != nil {
			t.Fatal(err)
		}
		if got := appendASN1(nil, signature[:]); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", n, got, want)
		}
	}
}
