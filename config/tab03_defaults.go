package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	warder "github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/strictyaml"
	"github.com/warder-mcp/warder/layer/tools"
	"github.com/warder-mcp/warder/proxy/upstream"
)

// Defaults judges how far a configuration departs from secure defaults. Control TAB-03.
//
// The zero of every field is the strict value, so an omitted key, a null and a false mean the same. A
// key that weakens a control has a name that says so, must be written out, and is reported at every
// start and by "warder check".
type Defaults struct{}

// Control names the control.
func (Defaults) Control() warder.ControlID { return "TAB-03" }

// A Weakening is one place where a configuration is weaker than the default.
type Weakening struct {
	Path    string           `json:"path"`    // key in the file
	Control warder.ControlID `json:"control"` // the control that is weaker for it
	Means   string           `json:"means"`   // what it allows
}

// Refuse returns what no named key can allow: a front door that speaks plaintext to other machines.
func (Defaults) Refuse(cfg *Config) []Problem {
	var out []Problem
	for i, l := range cfg.Listen {
		host, _, err := SplitAddress(l.Address)
		if err != nil || l.TLS != nil || IsLoopback(host) || cfg.Network.InsecurePlaintext {
			continue
		}
		out = append(out, Problem{
			Path:    fmt.Sprintf("listen[%d]", i),
			Message: "plaintext is refused outside the loopback interface",
			Hint:    "set tls.cert and tls.key, or listen on 127.0.0.1",
		})
	}
	return out
}

// Weakenings lists every departure from the defaults at the given time, in the order of the file.
func (Defaults) Weakenings(cfg *Config, now time.Time) []Weakening {
	var out []Weakening
	known := switches()
	each("", reflect.ValueOf(cfg).Elem(), func(path string, owner reflect.Type, key string, v reflect.Value) {
		s, ok := known[declared(owner, key)]
		if ok && s.weakens(v) {
			out = append(out, Weakening{Path: path, Control: s.control, Means: s.means})
		}
	})
	for _, id := range slices.Sorted(maps.Keys(cfg.Controls)) {
		c := cfg.Controls[id]
		if mode := c.ModeAt(now); mode != Enforce {
			out = append(out, Weakening{
				Path: "controls." + string(id), Control: id,
				Means: fmt.Sprintf("mode %s until %s, answered for by %s", mode, c.Until.Format(time.DateOnly), strictyaml.Visible(strictyaml.Clip(c.Owner))),
			})
		}
	}
	return out
}

// A toggle says what a key does to security.
type toggle struct {
	control warder.ControlID         // which control it weakens; empty: none
	means   string                   // what it allows
	weak    func(reflect.Value) bool // nil: every value but zero
	on      bool                     // a boolean whose default is true, and whose false is stricter
}

func (t toggle) weakens(v reflect.Value) bool {
	switch {
	case t.control == "" || v.IsZero():
		return false
	case t.weak != nil:
		return t.weak(v)
	default:
		return v.Kind() != reflect.Slice || v.Len() > 0
	}
}

// switches lists every boolean of the configuration, and every other key that weakens a control, by
// the struct that declares it. A test fails for a boolean that is missing here.
func switches() map[string]toggle {
	return map[string]toggle{
		"network.Config allow_tls12":        {control: "NET-05", means: "accepts TLS 1.2"},
		"tlsconf.Client allow_tls12":        {control: "NET-05", means: "accepts TLS 1.2"},
		"network.Config insecure_plaintext": {control: "NET-05", means: "accepts plaintext from other machines"},
		"proxy.Config min_revision": {
			control: "PRT-01", means: "speaks revisions older than 2025-06-18",
			weak: func(v reflect.Value) bool { return v.String() < string(warder.Revision20250618) },
		},
		"admin.Config local_owner":       {on: true},
		"admin.Factor mtls":              {control: "PUB-08", means: "takes a client certificate for a second factor"},
		"gateway.Elicitation form":       {on: true},
		"gateway.Elicitation url":        {on: true},
		"gateway.State reusable":         {control: "PRT-05", means: "lets one continuation be used more than once"},
		"gateway.Deprecated roots":       {control: "PRT-11", means: "lets servers ask for the client's folders"},
		"gateway.Deprecated sampling":    {control: "PRT-11", means: "lets servers use the client's model"},
		"gateway.Deprecated logging":     {control: "PRT-11", means: "lets servers send log messages to clients"},
		"gateway.Deprecated http_sse":    {control: "PRT-11", means: "opens the HTTP+SSE transport of 2024-11-05"},
		"identity.Audience allow_others": {control: "IAM-05", means: "accepts tokens that name other audiences too"},
		"identity.Audience shared_unsafe": {
			control: "IAM-05", means: "accepts one audience for every server: a token for one is good for all",
		},
		"config.TLS request_client_cert":    {},
		"identity.DPoP nonce":               {},
		"identity.DPoP content_digest":      {},
		"identity.Issuer workload":          {},
		"identity.Issuer bearer_clients":    {control: "IAM-01", means: "accepts bearer tokens of clients that act for themselves"},
		"identity.Issuer private_network":   {control: "AUT-08", means: "lets Warder reach an issuer at a private address"},
		"identity.Chain registered":         {},
		"store.Postgres insecure_plaintext": {control: "NET-05", means: "accepts an unprotected connection to a database on another machine"},
		"store.Redis insecure_plaintext":    {control: "NET-05", means: "accepts an unprotected connection to a Redis on another machine"},
		"issuer.ClientConfig native":        {},
		"issuer.ClientConfig introspect":    {},
		"issuer.Trust subject_prefix": {
			control: "AUT-07", means: "takes the people of a foreign issuer for those of the login",
			weak: func(v reflect.Value) bool { return v.String() != "" },
		},
		"issuer.Config require_dpop":             {},
		"issuer.Config require_par":              {},
		"issuer.Config legacy_secrets":           {control: "IAM-01", means: "lets clients authenticate with a shared secret"},
		"login.Provider private":                 {control: "AUT-08", means: "lets Warder reach an identity provider at a private or loopback address"},
		"login.Local enabled":                    {},
		"access.Purpose escalate":                {control: "JIT-03", means: "asks a person about calls that do not fit the stated purpose, instead of refusing them"},
		"access.GrantConfig self":                {control: "JIT-01", means: "lets people approve the grants they asked for"},
		"access.ApprovalWebhook private_network": {control: "AUT-08", means: "lets Warder reach the system that is told of approvals at a private address"},
		"access.ApprovalConfig self":             {control: "HIL-01", means: "lets callers approve their own calls"},
		"tools.Config trust": {
			control: "TDP-04", means: "approves definitions as they are first seen",
			weak: func(v reflect.Value) bool { return v.String() == string(tools.TrustFirstUse) },
		},
		"tools.Config servers": {
			control: "TDP-04", means: "approves definitions of some servers as they are first seen",
			weak: func(v reflect.Value) bool {
				for iter := v.MapRange(); iter.Next(); {
					if iter.Value().String() == string(tools.TrustFirstUse) {
						return true
					}
				}
				return false
			},
		},
		"input.Config strip_unknown_meta": {on: true},
		"input.Config open_arguments":     {control: "INV-04", means: "forwards arguments that no schema declares"},
		"upstream.Config allow_private":   {control: "AUT-08", means: "lets this server be at a private address"},
		"upstream.Run instances": {
			control: "PRT-06", means: "one process of this server for every caller",
			weak: func(v reflect.Value) bool { return v.String() == upstream.Shared },
		},
		"output.Config public_servers": {control: "PRT-07", means: "lets answers of these servers be cached for everybody"},
		"record.Capture enabled":       {control: "LOG-01", means: "keeps the bodies of requests, encrypted"},
	}
}

// declared names a key by the struct that declares it: "network.Config allow_tls12".
func declared(owner reflect.Type, key string) string {
	pkg := owner.PkgPath()[strings.LastIndexByte(owner.PkgPath(), '/')+1:]
	return pkg + "." + owner.Name() + " " + key
}

// each visits every value with the struct that declares it.
func each(path string, v reflect.Value, visit func(path string, owner reflect.Type, key string, v reflect.Value)) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	switch {
	case strictyaml.IsScalar(v.Type()):
	case v.Kind() == reflect.Struct:
		for _, k := range strictyaml.Keys(v.Type()) {
			field, err := v.FieldByIndexErr(k.Index)
			if err != nil {
				continue
			}
			at := strictyaml.Join(path, k.Name)
			visit(at, strictyaml.Owner(v.Type(), k), k.Name, field)
			each(at, field, visit)
		}
	case v.Kind() == reflect.Map:
		for _, key := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
			each(strictyaml.Join(path, key.String()), v.MapIndex(key), visit)
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			each(fmt.Sprintf("%s[%d]", path, i), v.Index(i), visit)
		}
	}
}
