// Package passkeytest is an authenticator in software, for tests: it makes discoverable ES256 credentials
// with attestation "none" and signs assertions with them, as a browser and a security key do together
// (W3C Web Authentication Level 3 sections 6.1, 6.5 and 7). It is not linked into the gateway.
//
//	device := passkeytest.New("https://gate.example.com")
//	response, err := device.Create(options) // JSON of PublicKeyCredentialCreationOptions
//	response, err = device.Get(options)
package passkeytest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
)

// A Device is an authenticator and the browser before it. Fields may be changed between ceremonies to play
// what an attacker does. It is not safe for concurrent use.
type Device struct {
	Origin     string // origin of the page, as the browser reports it
	CrossSite  bool   // the page is in a frame of another site
	Unverified bool   // the person is present but was not verified
	Absent     bool   // nobody touched the device
	Count      uint32 // signature counter of the next assertion; 0: the device has none
	Synced     bool   // the credential is copied between devices
	Forge      bool   // sign with another key
	Handle     []byte // user handle to present; nil: the credential's

	id   []byte
	user []byte
	rp   string
	key  *ecdsa.PrivateKey
}

// New returns a device that visits an origin.
func New(origin string) *Device { return &Device{Origin: origin} }

// options are the parts of both kinds of options that the device reads.
type options struct {
	Challenge string `json:"challenge"`
	RPID      string `json:"rpId"`
	RP        struct {
		ID string `json:"id"`
	} `json:"rp"`
	User struct {
		ID string `json:"id"`
	} `json:"user"`
	Exclude []struct {
		ID string `json:"id"`
	} `json:"excludeCredentials"`
}

// Create makes a credential.
func (d *Device) Create(raw []byte) (json.RawMessage, error) {
	var o options
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("creation options: %w", err)
	}
	for _, known := range o.Exclude {
		if known.ID == text(d.id) {
			return nil, errors.New("the device has a credential already")
		}
	}
	var err error
	if d.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if d.user, err = base64.RawURLEncoding.DecodeString(o.User.ID); err != nil {
		return nil, fmt.Errorf("user handle: %w", err)
	}
	d.id, d.rp = make([]byte, 32), o.RP.ID
	_, _ = rand.Read(d.id)
	public, err := d.cose()
	if err != nil {
		return nil, err
	}
	data := d.data(1 << 6)                   // AT: attested credential data follows
	data = append(data, make([]byte, 16)...) // AAGUID
	data = append(data, 0, byte(len(d.id)))
	data = append(append(data, d.id...), public...)
	object := cborMap(
		cborText("fmt"), cborText("none"),
		cborText("attStmt"), cborMap(),
		cborText("authData"), cborBytes(data),
	)
	return json.Marshal(map[string]any{
		"id": text(d.id), "rawId": text(d.id), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{"clientDataJSON": text(d.client("webauthn.create", o.Challenge)), "attestationObject": text(object)},
	})
}

// Get signs an assertion with the credential that was made.
func (d *Device) Get(raw []byte) (json.RawMessage, error) {
	var o options
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("request options: %w", err)
	}
	if d.key == nil || d.rp != o.RPID {
		return nil, errors.New("the device has no credential for this site")
	}
	key := d.key
	if d.Forge {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	data, client := d.data(0), d.client("webauthn.get", o.Challenge)
	hash := sha256.Sum256(client)
	sum := sha256.Sum256(append(bytes.Clone(data), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return nil, err
	}
	handle := d.user
	if d.Handle != nil {
		handle = d.Handle
	}
	return json.Marshal(map[string]any{
		"id": text(d.id), "rawId": text(d.id), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{
			"clientDataJSON": text(client), "authenticatorData": text(data), "signature": text(signature), "userHandle": text(handle),
		},
	})
}

// client is what the browser says of the page.
func (d *Device) client(kind, challenge string) []byte {
	b, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": d.Origin, "crossOrigin": d.CrossSite})
	if err != nil {
		return nil // strings and a bool
	}
	return b
}

// data is authenticator data (section 6.1): the site, what the person did, the counter.
func (d *Device) data(flags byte) []byte {
	rp := d.rp
	if u, err := url.Parse(d.Origin); rp == "" && err == nil {
		rp = u.Hostname()
	}
	if !d.Absent {
		flags |= 1 << 0
	}
	if !d.Unverified {
		flags |= 1 << 2
	}
	if d.Synced {
		flags |= 1<<3 | 1<<4
	}
	hash := sha256.Sum256([]byte(rp))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), d.Count)
}

// cose is the public key (RFC 9053 section 7.1.1).
func (d *Device) cose() ([]byte, error) {
	point, err := d.key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return cborMap( // kty: EC2, alg: ES256, crv: P-256, x, y
		[]byte{0x01}, []byte{0x02},
		[]byte{0x03}, []byte{0x26},
		[]byte{0x20}, []byte{0x01},
		[]byte{0x21}, cborBytes(point[1:33]),
		[]byte{0x22}, cborBytes(point[33:65]),
	), nil
}

func text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// cborMap, cborText and cborBytes write what is needed of RFC 8949, in canonical form.
func cborMap(pairs ...[]byte) []byte {
	return append([]byte{0xa0 | byte(len(pairs)/2)}, bytes.Join(pairs, nil)...)
}

func cborText(s string) []byte { return append([]byte{0x60 | byte(len(s))}, s...) }

func cborBytes(b []byte) []byte {
	if len(b) < 256 {
		return append([]byte{0x58, byte(len(b))}, b...)
	}
	return append([]byte{0x59, byte(len(b) >> 8), byte(len(b))}, b...)
}
