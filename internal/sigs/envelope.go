package sigs

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// MetaKey is the member of _meta that holds the envelope of a signed message.
const MetaKey = "io.warder/signature"

// An Envelope is the signature of one message with what it says of itself.
type Envelope struct {
	KeyID    string
	Nonce    string
	Created  time.Time
	Expires  time.Time
	Audience string // whom the message is for: the canonical URI of a server; empty in answers
	Digest   string // of the message without the envelope
	Request  string // digest of the request that the message answers, id included; empty in requests
	Until    time.Time
}

// A Check says what the envelope of a message must be like.
type Check struct {
	Keys     func(id string) (Key, bool)
	Window   time.Duration   // how old it may be, and how long it may last
	Skew     time.Duration   // how far the signer's clock may be ahead
	Audience string          // whom it must be for; empty: nobody in particular
	Request  *warder.Message // the request that it must answer; nil: it is none
}

// Bounds of envelopes.
const (
	maxEnvelope = 4 << 10
	maxText     = 512
)

// preamble keeps signatures over envelopes apart from all other signatures of the key.
const preamble = "warder message signature 1\n"

// Envelope signs a request or notification for an audience, or an answer to a request. The result is the
// value of the member [MetaKey]; [Attach] puts it into the message.
func (s *Signer) Envelope(m *warder.Message, audience string, request *warder.Message, now time.Time, lifetime time.Duration) ([]byte, error) {
	digest, err := digestOf(m)
	if err != nil {
		return nil, err
	}
	b := append([]byte{'{'}, textMember(audience, "audience")...)
	b = append(b, `"created":`...)
	b = strconv.AppendInt(b, now.Unix(), 10)
	b = append(append(b, ','), textMember(digest, "digest")...)
	b = append(b, `"expires":`...)
	b = strconv.AppendInt(b, now.Add(lifetime).Unix(), 10)
	b = append(append(append(b, ','), textMember(s.id, "keyid")...), textMember(rand.Text(), "nonce")...)
	if request != nil {
		answered, err := digestOf(request)
		if err != nil {
			return nil, err
		}
		b = append(b, textMember(answered, "request")...)
	}
	unsigned, err := wire.Canonical(append(b[:len(b)-1:len(b)-1], '}'))
	if err != nil {
		return nil, fmt.Errorf("sign message: %w", err)
	}
	signature, err := s.sign(append([]byte(preamble), unsigned...))
	if err != nil {
		return nil, err
	}
	sig := textMember(base64.RawURLEncoding.EncodeToString(signature), "sig")
	return append(append(append(unsigned[:len(unsigned)-1], ','), sig[:len(sig)-1]...), '}'), nil
}

// textMember writes a text member with a comma behind it; nothing for an empty text.
func textMember(value, key string) []byte {
	if value == "" {
		return nil
	}
	return append(wire.AppendQuote([]byte(`"`+key+`":`), value), ',')
}

// Attach returns the message with the envelope. Errors (JSON-RPC) have no place for one.
func Attach(m *warder.Message, envelope []byte, lim wire.Limits) (*warder.Message, error) {
	span, members := body(m)
	own := slices.Concat([]byte(`{"`+MetaKey+`":`), envelope, []byte{'}'})
	switch {
	case m.Kind == warder.KindError:
		return nil, fmt.Errorf("%w: an error has no _meta", ErrUnsigned)
	case members.Get("_meta").Present():
		return wire.Splice(m, lim, wire.SetMember(m, members.Get("_meta"), m.Meta, MetaKey, envelope))
	case span.Present():
		return wire.Splice(m, lim, wire.SetMember(m, span, members, "_meta", own))
	default:
		return wire.Splice(m, lim, wire.SetMember(m, wire.Whole(m), m.Envelope, "params", slices.Concat([]byte(`{"_meta":`), own, []byte{'}'})))
	}
}

// body is where _meta stands.
func body(m *warder.Message) (warder.Span, warder.Object) {
	if m.Kind == warder.KindResult {
		return m.ResultSpan, m.Result
	}
	return m.ParamsSpan, m.Params
}

// Signed reports whether the message has an envelope, whatever it is worth.
func Signed(m *warder.Message) bool { return m.Meta.Get(MetaKey).Present() }

// Verify checks the envelope of a message. The caller remembers the nonce until Until.
func (c Check) Verify(m *warder.Message, now time.Time) (Envelope, error) {
	v := wire.At(m, m.Meta.Get(MetaKey))
	if !v.Exists() {
		return Envelope{}, ErrUnsigned
	}
	e, sig, err := readEnvelope(v)
	if err != nil {
		return Envelope{}, err
	}
	key, ok := c.Keys(e.KeyID)
	if !ok {
		return Envelope{}, ErrUnsigned
	}
	signed, err := withoutSignature(v)
	if err != nil {
		return Envelope{}, err
	}
	if !key.verify(append([]byte(preamble), signed...), sig) {
		return Envelope{}, ErrSignature
	}
	if err := c.content(m, &e); err != nil {
		return Envelope{}, err
	}
	if e.Until = e.Created.Add(c.Window); e.Expires.Before(e.Until) {
		e.Until = e.Expires
	}
	if e.Created.After(now.Add(c.Skew)) || !now.Before(e.Until) {
		return Envelope{}, ErrStale
	}
	return e, nil
}

// content checks that the envelope is of this message, for this audience, and an answer to this request.
func (c Check) content(m *warder.Message, e *Envelope) error {
	digest, err := digestOf(m)
	if err != nil {
		return err
	}
	want := ""
	if c.Request != nil {
		if want, err = digestOf(c.Request); err != nil {
			return err
		}
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(digest), []byte(e.Digest)) != 1:
		return fmt.Errorf("%w: the message was changed", ErrDigest)
	case want != e.Request:
		return fmt.Errorf("%w: it answers another request", ErrDigest)
	case c.Audience != "" && c.Audience != e.Audience:
		return fmt.Errorf("%w: it is for another audience", ErrParameter)
	}
	return nil
}

// readEnvelope reads the members; unknown ones are refused.
func readEnvelope(v wire.Value) (e Envelope, sig []byte, err error) {
	bad := func(name string) error { return fmt.Errorf("%w: envelope member %.32q", ErrField, name) }
	if v.Kind() != '{' || len(v.Raw()) > maxEnvelope {
		return Envelope{}, nil, bad("")
	}
	for key, m := range v.Members() {
		name := key.Unescaped()
		text, isText := m.Text()
		number, isNumber := m.Int()
		switch {
		case isText && (text == "" || len(text) > maxText):
			return Envelope{}, nil, bad(name)
		case isText && name == "audience":
			e.Audience = text
		case isText && name == "digest":
			e.Digest = text
		case isText && name == "keyid":
			e.KeyID = text
		case isText && name == "nonce":
			e.Nonce = text
		case isText && name == "request":
			e.Request = text
		case isText && name == "sig":
			if sig, err = base64.RawURLEncoding.Strict().DecodeString(text); err != nil {
				return Envelope{}, nil, bad(name)
			}
		case isNumber && name == "created":
			e.Created = time.Unix(number, 0)
		case isNumber && name == "expires":
			e.Expires = time.Unix(number, 0)
		default:
			return Envelope{}, nil, bad(name)
		}
	}
	if e.KeyID == "" || !soundNonce(e.Nonce) || e.Digest == "" || e.Created.IsZero() || e.Expires.IsZero() || sig == nil {
		return Envelope{}, nil, bad("missing")
	}
	return e, sig, nil
}

// withoutSignature is the canonical form of the envelope without sig.
func withoutSignature(v wire.Value) ([]byte, error) {
	b := []byte{'{'}
	for key, m := range v.Members() {
		if key.Is("sig") {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, key.Raw()...), ':'), m.Raw()...)
	}
	c, err := wire.Canonical(append(b, '}'))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrField, err)
	}
	return c, nil
}

// digestOf is the digest of a message without its envelope, in canonical form (RFC 8785). A _meta or
// params that is empty without the envelope counts as absent. Numbers that double precision may not hold
// are covered as they are written, because the canonical form would round them.
func digestOf(m *warder.Message) (string, error) {
	raw := withoutEnvelope(m)
	c, err := wire.Canonical(raw)
	if err != nil {
		return "", fmt.Errorf("digest of message: %w", err)
	}
	h := sha256.New()
	h.Write(c)
	var long []string
	longNumbers(wire.Parse(raw), "", &long)
	slices.Sort(long)
	for _, n := range long {
		h.Write([]byte{0})
		h.Write([]byte(n))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)), nil
}

// withoutEnvelope writes the message as it was before it was signed.
func withoutEnvelope(m *warder.Message) []byte {
	span, members := body(m)
	b := []byte{'{'}
	for i := range m.Envelope {
		o := &m.Envelope[i]
		value := m.At(o.Value)
		if span.Present() && o.Value == span && members != nil {
			if value = bodyWithout(m, members); value == nil {
				continue
			}
		}
		b = appendMember(b, m.At(o.Name), value)
	}
	return append(b, '}')
}

// bodyWithout writes params or a result without the envelope; nil for params that are empty then.
func bodyWithout(m *warder.Message, members warder.Object) []byte {
	b := []byte{'{'}
	for i := range members {
		o := &members[i]
		value := m.At(o.Value)
		if o.Key == "_meta" && value[0] == '{' {
			meta := []byte{'{'}
			for j := range m.Meta {
				if m.Meta[j].Key != MetaKey {
					meta = appendMember(meta, m.At(m.Meta[j].Name), m.At(m.Meta[j].Value))
				}
			}
			if len(meta) == 1 {
				continue
			}
			meta = append(meta, '}')
			value = meta
		}
		b = appendMember(b, m.At(o.Name), value)
	}
	if len(b) == 1 && m.Kind != warder.KindResult {
		return nil
	}
	return append(b, '}')
}

func appendMember(b, name, value []byte) []byte {
	if len(b) > 1 {
		b = append(b, ',')
	}
	return append(append(append(b, name...), ':'), value...)
}

// longNumbers collects pointer and text of every number that double precision may not hold.
func longNumbers(v wire.Value, pointer string, out *[]string) {
	switch v.Kind() {
	case '0':
		if raw := string(v.Raw()); long(raw) {
			*out = append(*out, pointer+"="+raw)
		}
	case '{':
		for key, m := range v.Members() {
			longNumbers(m, wire.AppendPointer(pointer, key.Unescaped()), out)
		}
	case '[':
		for i, e := range v.Elements() {
			longNumbers(e, pointer+"/"+strconv.Itoa(i), out)
		}
	}
}

// long reports whether a number has more digits, or a larger exponent, than double precision keeps.
func long(raw string) bool {
	const safeDigits, safeExponent = 15, 300
	digits, started := 0, false
	for i := range len(raw) {
		c := raw[i]
		if c == 'e' || c == 'E' {
			exp, err := strconv.Atoi(raw[i+1:])
			return digits > safeDigits || err != nil || exp > safeExponent || exp < -safeExponent
		}
		if started = started || '1' <= c && c <= '9'; started && '0' <= c && c <= '9' {
			digits++
		}
	}
	return digits > safeDigits
}
