package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers of Standard Webhooks 1.0.0.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// tolerance is how far the time of a message may be from ours.
const tolerance = 5 * time.Minute

// minSecret is the least length of a shared secret, in bytes.
const minSecret = 24

// A Key signs or verifies. Exactly one of its fields is set.
type Key struct {
	Secret  []byte             // shared secret of HMAC-SHA-256, at least 24 bytes
	Private ed25519.PrivateKey // to sign
	Public  ed25519.PublicKey  // to verify
}

func (k Key) check(signing bool) error {
	switch {
	case len(k.Secret) >= minSecret && k.Private == nil && k.Public == nil:
		return nil
	case signing && len(k.Private) == ed25519.PrivateKeySize && k.Secret == nil && k.Public == nil:
		return nil
	case !signing && len(k.Public) == ed25519.PublicKeySize && k.Secret == nil && k.Private == nil:
		return nil
	default:
		return errors.New("webhook: a key is one shared secret of at least 24 bytes, or one Ed25519 key")
	}
}

func content(id, timestamp string, body []byte) []byte {
	out := make([]byte, 0, len(id)+len(timestamp)+2+len(body))
	out = append(append(out, id...), '.')
	out = append(append(out, timestamp...), '.')
	return append(out, body...)
}

// sign sets the headers of a message.
func (k Key) sign(h http.Header, id string, now time.Time, body []byte) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	h.Set(headerID, id)
	h.Set(headerTimestamp, timestamp)
	signed := content(id, timestamp, body)
	if k.Private != nil {
		h.Set(headerSignature, "v1a,"+base64.StdEncoding.EncodeToString(ed25519.Sign(k.Private, signed)))
		return
	}
	h.Set(headerSignature, "v1,"+base64.StdEncoding.EncodeToString(mac(k.Secret, signed)))
}

func mac(secret, signed []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write(signed)
	return h.Sum(nil)
}

// maxSignatures bounds how many signatures of a message are tried.
const maxSignatures = 8

// verify reports whether one of the message's signatures is one of the keys'.
func verify(keys []Key, id, timestamp, signatures string, body []byte) bool {
	signed := content(id, timestamp, body)
	fields := strings.Fields(signatures)
	for _, one := range fields[:min(len(fields), maxSignatures)] {
		version, text, ok := strings.Cut(one, ",")
		value, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil {
			continue
		}
		for _, k := range keys {
			switch {
			case version == "v1" && k.Secret != nil && hmac.Equal(value, mac(k.Secret, signed)):
				return true
			case version == "v1a" && k.Public != nil && ed25519.Verify(k.Public, signed, value):
				return true
			}
		}
	}
	return false
}
