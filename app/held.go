package app

import (
	"context"

	"github.com/warder-mcp/warder"
)

// held attaches a credential that the program holds, such as that of a person who logged in with "warder
// connect", instead of one that the configuration names. It is one more place where a credential of Warder's
// own comes from (control AUT-04).
type held struct {
	credential func(server string) warder.Credential
}

var _ warder.Interceptor = held{}

// Control returns AUT-04.
func (held) Control() warder.ControlID { return "AUT-04" }

// Intercept sets the credential of the server, if the program holds one.
func (h held) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Server == nil {
		return warder.Continue(), nil
	}
	if c := h.credential(x.Server.Name); c.Kind != "" {
		x.Attach = c
	}
	return warder.Continue(), nil
}

// holding adds held to the layer of credentials, if the program holds any.
func holding(credential func(server string) warder.Credential, layer warder.Layer, err error) (warder.Layer, error) {
	if err != nil || credential == nil {
		return layer, err
	}
	layer.Request = append(layer.Request, held{credential})
	return layer, nil
}
