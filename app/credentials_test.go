package app

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/issuer/login"
)

// TestIdentityIsOfTheOwnLogin asks for the ID token of callers whose token was not issued in a login here:
// there is none, whatever their token says of a session.
func TestIdentityIsOfTheOwnLogin(t *testing.T) {
	a, door, _ := openBound(t, filepath.Join(t.TempDir(), "data"), `upstream: {}
`)
	o := a.live.Load().authority
	for name, p := range map[string]*warder.Principal{
		"token of another issuer":  {Issuer: "https://idp.example.com", Subject: "ada", Session: "s"},
		"no session":               {Issuer: door + "/issuer", Subject: "ada"},
		"a session that has ended": {Issuer: door + "/issuer", Subject: "ada", Session: "s"},
	} {
		if v, err := o.identity(t.Context(), p, "https://idp.example.com"); !errors.Is(err, login.ErrNoIdentity) || len(v.Bytes()) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
