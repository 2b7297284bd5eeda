package sigs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// Errors of verification, besides [ErrField], [ErrComponent] and [ErrDigest].
var (
	ErrUnsigned  = errors.New("no signature of a known key")
	ErrUncovered = errors.New("the signature does not cover what it must")
	ErrSignature = errors.New("signature does not match")
	ErrStale     = errors.New("signature is too old, from the future or has ended")
	ErrParameter = errors.New("signature parameter is missing or contradicts the key")
)

// Rules say what a signature must be like. The zero value covers nothing and is of no use.
type Rules struct {
	Cover  []string      // components that must be covered, such as "@method"; those of fields only where the field is there, content-digest always
	Window time.Duration // how old a signature may be
	Skew   time.Duration // how far the signer's clock may be ahead
	Tag    string        // tag of the signature (RFC 9421 section 2.3); empty: any
}

// maxSignatures bounds the signatures of one message.
const maxSignatures = 8

// A Verified is a signature that was found good.
type Verified struct {
	KeyID   string
	Nonce   string
	Created time.Time
	Until   time.Time // from then on it is refused as stale: until then the nonce is to be remembered
}

// Verify checks the one signature of the message that names a known key and the tag of the rules. Two
// such signatures are ambiguous and refused. keys returns the key of an id.
func Verify(m *Message, rules Rules, keys func(id string) (Key, bool), now time.Time) (Verified, error) {
	inputs, err := parseDictionary(combine(m.Header["Signature-Input"]))
	if err != nil {
		return Verified{}, err
	}
	signatures, err := parseDictionary(combine(m.Header["Signature"]))
	if err != nil {
		return Verified{}, err
	}
	if len(inputs) > maxSignatures || len(signatures) > maxSignatures {
		return Verified{}, fmt.Errorf("%w: too many signatures", ErrField)
	}
	var found *member
	var key Key
	for i := range inputs {
		k, ok := candidate(&inputs[i].item, rules.Tag, keys)
		if !ok {
			continue
		}
		if found != nil {
			return Verified{}, fmt.Errorf("%w: more than one signature", ErrParameter)
		}
		found, key = &inputs[i], k
	}
	if found == nil {
		return Verified{}, ErrUnsigned
	}
	v, err := judge(m, &found.item, rules, key, now)
	if err != nil {
		return Verified{}, err
	}
	i := slices.IndexFunc(signatures, func(s member) bool { return s.key == found.key })
	if i < 0 {
		return Verified{}, ErrUnsigned
	}
	signature, ok := signatures[i].item.value.([]byte)
	if !ok {
		return Verified{}, ErrField
	}
	text, err := base(m, &found.item)
	if err != nil {
		return Verified{}, err
	}
	if !key.verify(text, signature) {
		return Verified{}, ErrSignature
	}
	return v, nil
}

// candidate returns the key of a signature that is for these rules.
func candidate(list *item, tag string, keys func(string) (Key, bool)) (Key, bool) {
	if list.inner == nil {
		return Key{}, false
	}
	if t, _ := list.param("tag"); tag != "" && t != tag {
		return Key{}, false
	}
	id, _ := list.param("keyid")
	text, ok := id.(string)
	if !ok {
		return Key{}, false
	}
	return keys(text)
}

// judge checks coverage, parameters and times.
func judge(m *Message, list *item, rules Rules, key Key, now time.Time) (Verified, error) {
	for _, name := range rules.Cover {
		if name != "content-digest" && name[0] != '@' && len(m.Header[http.CanonicalHeaderKey(name)]) == 0 {
			continue
		}
		if !slices.ContainsFunc(list.inner, func(c item) bool { return c.value == name && len(c.params) == 0 }) {
			return Verified{}, fmt.Errorf("%w: %q", ErrUncovered, name)
		}
	}
	if alg, given := list.param("alg"); given && alg != key.Algorithm {
		return Verified{}, fmt.Errorf("%w: alg is not that of the key", ErrParameter)
	}
	nonce, _ := list.param("nonce")
	text, ok := nonce.(string)
	if !ok || !soundNonce(text) {
		return Verified{}, fmt.Errorf("%w: nonce", ErrParameter)
	}
	created, ok := seconds(list, "created")
	if !ok {
		return Verified{}, fmt.Errorf("%w: created", ErrParameter)
	}
	until := created.Add(rules.Window)
	if _, given := list.param("expires"); given {
		expires, ok := seconds(list, "expires")
		if !ok {
			return Verified{}, fmt.Errorf("%w: expires", ErrParameter)
		}
		if expires.Before(until) {
			until = expires
		}
	}
	if created.After(now.Add(rules.Skew)) || !now.Before(until) {
		return Verified{}, ErrStale
	}
	return Verified{KeyID: key.ID, Nonce: text, Created: created, Until: until}, nil
}

// soundNonce wants enough room for randomness and no more than a store takes.
func soundNonce(s string) bool { return len(s) >= 16 && len(s) <= 128 }

func seconds(list *item, name string) (time.Time, bool) {
	v, _ := list.param(name)
	n, ok := v.(int64)
	return time.Unix(n, 0), ok && n > 0
}

// Tag is the tag of the signatures that Warder makes (RFC 9421 section 2.3).
const Tag = "warder"

// label is the dictionary key of the signatures that Warder makes.
const label = "warder"

// Sign adds a signature over the components to the message's header, good for lifetime.
func (s *Signer) Sign(m *Message, components []string, now time.Time, lifetime time.Duration) error {
	list := item{inner: []item{}, params: []param{
		{"created", now.Unix()},
		{"expires", now.Add(lifetime).Unix()},
		{"nonce", rand.Text()},
		{"alg", s.public.Algorithm},
		{"keyid", s.id},
		{"tag", Tag},
	}}
	for _, c := range components {
		list.inner = append(list.inner, item{value: c})
	}
	text, err := base(m, &list)
	if err != nil {
		return fmt.Errorf("sign message: %w", err)
	}
	signature, err := s.sign(text)
	if err != nil {
		return err
	}
	m.Header.Set("Signature-Input", string(appendItem([]byte(label+"="), &list)))
	m.Header.Set("Signature", string(appendBare([]byte(label+"="), signature)))
	return nil
}

// requestLifetime is how long a signature of an outgoing request is good.
const requestLifetime = time.Minute

// SignRequest signs an outgoing request: method, target, credentials and the digest of the body, which
// is read through r.GetBody and must be there if r has one. It is called last, when all headers are set.
func (s *Signer) SignRequest(r *http.Request, now time.Time) error {
	components := []string{"@method", "@target-uri"}
	if r.Body != nil && r.Body != http.NoBody {
		if r.GetBody == nil {
			return errors.New("sign request: the body cannot be read twice")
		}
		body, err := r.GetBody()
		if err != nil {
			return fmt.Errorf("sign request: %w", err)
		}
		raw, err := io.ReadAll(body)
		if err = errors.Join(err, body.Close()); err != nil {
			return fmt.Errorf("sign request: %w", err)
		}
		r.Header.Set("Content-Digest", ContentDigest(raw))
		components = append(components, "content-digest")
	}
	for _, name := range []string{"authorization", "dpop", "mcp-session-id"} {
		if len(r.Header[http.CanonicalHeaderKey(name)]) > 0 {
			components = append(components, name)
		}
	}
	m := &Message{Method: r.Method, TargetURI: r.URL.String(), Header: r.Header}
	return s.Sign(m, components, now, requestLifetime)
}
