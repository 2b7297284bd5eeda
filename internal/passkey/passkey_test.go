package passkey_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/passkey"
	"github.com/warder-mcp/warder/internal/passkey/passkeytest"
)

const origin = "https://gate.example.com"

func party(t *testing.T) *passkey.Party {
	t.Helper()
	p, err := passkey.New(passkey.Config{ID: "gate.example.com", Name: "Warder", Origins: []string{origin}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// registered is an account with a key on a device.
func registered(t *testing.T, p *passkey.Party, d *passkeytest.Device) passkey.Account {
	t.Helper()
	a := passkey.Account{Handle: []byte("handle-of-ada"), Name: "ada"}
	options, ceremony, err := p.BeginRegister(a)
	if err != nil {
		t.Fatal(err)
	}
	response, err := d.Create(options)
	if err != nil {
		t.Fatal(err)
	}
	key, err := p.FinishRegister(a, ceremony, response, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.Keys = append(a.Keys, key)
	return a
}

func TestNewWantsAName(t *testing.T) {
	for _, id := range []string{"", "127.0.0.1", "::1"} {
		if _, err := passkey.New(passkey.Config{ID: id, Name: "Warder", Origins: []string{origin}}); !errors.Is(err, passkey.ErrID) {
			t.Errorf("New(%q) = %v, want ErrID", id, err)
		}
	}
}

func TestOptionsAskForVerificationAndDiscovery(t *testing.T) {
	p := party(t)
	raw, _, err := p.BeginRegister(passkey.Account{Handle: []byte("h"), Name: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	var o struct {
		Attestation string `json:"attestation"`
		Selection   struct {
			ResidentKey      string `json:"residentKey"`
			UserVerification string `json:"userVerification"`
		} `json:"authenticatorSelection"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	if o.Selection.ResidentKey != "required" || o.Selection.UserVerification != "required" || o.Attestation != "none" && o.Attestation != "" {
		t.Errorf("options: %+v", o)
	}
}

func TestLogin(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(*passkeytest.Device)
		want  error
	}{
		{"pass", func(*passkeytest.Device) {}, nil},
		{"near_miss_synced", func(d *passkeytest.Device) { d.Count = 0 }, nil},
		{"deny_not_verified", func(d *passkeytest.Device) { d.Unverified = true }, passkey.ErrRefused},
		{"deny_not_present", func(d *passkeytest.Device) { d.Absent = true }, passkey.ErrRefused},
		{"deny_phishing_origin", func(d *passkeytest.Device) { d.Origin = "https://gate.example.com.evil.example" }, passkey.ErrRefused},
		{"deny_plain_origin", func(d *passkeytest.Device) { d.Origin = "http://gate.example.com" }, passkey.ErrRefused},
		{"deny_other_port", func(d *passkeytest.Device) { d.Origin = origin + ":8443" }, passkey.ErrRefused},
		{"deny_framed", func(d *passkeytest.Device) { d.CrossSite = true }, passkey.ErrRefused},
		{"deny_forged", func(d *passkeytest.Device) { d.Forge = true }, passkey.ErrRefused},
		{"deny_other_handle", func(d *passkeytest.Device) { d.Handle = []byte("handle-of-eve") }, errStranger},
		{"deny_no_handle", func(d *passkeytest.Device) { d.Handle = []byte{} }, passkey.ErrRefused},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, d := party(t), passkeytest.New(origin)
			a := registered(t, p, d)
			options, ceremony, err := p.BeginLogin()
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(d)
			response, err := d.Get(options)
			if err != nil {
				t.Fatal(err)
			}
			who, key, err := p.FinishLogin(ceremony, response, finder(a), time.Now())
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.want == nil && (who.Name != "ada" || key.Used.IsZero()) {
				t.Errorf("got %+v, %+v", who, key)
			}
		})
	}
}

var errStranger = errors.New("no such account")

func finder(a passkey.Account) func([]byte) (passkey.Account, error) {
	return func(handle []byte) (passkey.Account, error) {
		if string(handle) != string(a.Handle) {
			return passkey.Account{}, errStranger
		}
		return a, nil
	}
}

func TestCopiedKeyIsNoticed(t *testing.T) {
	p, d := party(t), passkeytest.New(origin)
	a := registered(t, p, d)
	login := func(count uint32) error {
		t.Helper()
		options, ceremony, err := p.BeginLogin()
		if err != nil {
			t.Fatal(err)
		}
		d.Count = count
		response, err := d.Get(options)
		if err != nil {
			t.Fatal(err)
		}
		_, key, err := p.FinishLogin(ceremony, response, finder(a), time.Now())
		if err == nil {
			a.Keys[0] = key
		}
		return err
	}
	if err := login(5); err != nil {
		t.Fatal(err)
	}
	for _, count := range []uint32{5, 4} {
		if err := login(count); !errors.Is(err, passkey.ErrCloned) {
			t.Errorf("counter %d after 5: %v, want ErrCloned", count, err)
		}
	}
	if err := login(6); err != nil {
		t.Errorf("the true key after the copy: %v", err)
	}
}

func TestResponseBelongsToItsCeremony(t *testing.T) {
	p, d := party(t), passkeytest.New(origin)
	a := registered(t, p, d)
	options, _, err := p.BeginLogin()
	if err != nil {
		t.Fatal(err)
	}
	response, err := d.Get(options)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := p.BeginLogin()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.FinishLogin(other, response, finder(a), time.Now()); !errors.Is(err, passkey.ErrRefused) {
		t.Errorf("response of another challenge: %v", err)
	}
	if _, _, err := p.FinishLogin([]byte(`{"challenge":"AAAA"}`), response, finder(a), time.Now()); !errors.Is(err, passkey.ErrRefused) {
		t.Errorf("ceremony without verification: %v", err)
	}
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{}}`))
	f.Fuzz(func(t *testing.T, response []byte) {
		p := party(t)
		_, ceremony, err := p.BeginLogin()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.FinishLogin(ceremony, response, finder(passkey.Account{Handle: []byte("h")}), time.Now()); err == nil {
			t.Error("accepted")
		}
		a := passkey.Account{Handle: []byte("h"), Name: "n"}
		_, ceremony, err = p.BeginRegister(a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.FinishRegister(a, ceremony, response, time.Now()); err == nil {
			t.Error("registered")
		}
	})
}
