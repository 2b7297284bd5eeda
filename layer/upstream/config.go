package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/secret"
)

// Config is the upstream section of the configuration: who Warder is to other authorization servers.
type Config struct {
	ClientName string `yaml:"client_name,omitempty"` // what authorization servers show to people; default Warder
	ClientURI  string `yaml:"client_uri,omitempty"`  // page about this installation
	ClientID   string `yaml:"client_id,omitempty"`   // address of our client id metadata document; default BASE/oauth/client.json where the base address is https
}

// Credentials is the credentials section of one server. At most one kind is set; with none the server is
// shown no credential.
type Credentials struct {
	Authorization     Authorization      `yaml:"authorization,omitempty"`      // how tokens are asked for, whatever the kind
	OAuth             *OAuth             `yaml:"oauth,omitempty"`              // each person authorizes Warder once
	ClientCredentials *ClientCredentials `yaml:"client_credentials,omitempty"` // Warder itself is the client; every caller shares the token
	Exchange          *Exchange          `yaml:"exchange,omitempty"`           // an assertion about the caller is exchanged (RFC 8693)
	IDJAG             *IDJAG             `yaml:"id_jag,omitempty"`             // enterprise-managed authorization (ID-JAG)
	Workload          *Workload          `yaml:"workload,omitempty"`           // Warder's workload identity is the grant (RFC 7523)
	Secret            *Secret            `yaml:"secret,omitempty"`             // an API key or another secret
}

// Authorization narrows where tokens come from.
type Authorization struct {
	Issuers      []string `yaml:"issuers,omitempty"`       // the only authorization servers that may be used; default any that the server's metadata names
	Scopes       []string `yaml:"scopes,omitempty"`        // asked for; default those of the server's challenge, else those it says it supports
	DPoP         string   `yaml:"dpop,omitempty"`          // "auto" (default: where the authorization server offers it), "required" or "off"
	PrivateHosts []string `yaml:"private_hosts,omitempty"` // hosts of authorization servers that may have private addresses
}

// A Client is Warder's registration at one authorization server.
type Client struct {
	Issuer string     `yaml:"issuer"`           // where it is registered; never used elsewhere
	ID     string     `yaml:"id"`               // client_id
	Method string     `yaml:"method,omitempty"` // none, client_secret_basic, client_secret_post or private_key_jwt; default what the server supports
	Secret secret.Ref `yaml:"secret,omitempty"` // client_secret
	Key    secret.Ref `yaml:"key,omitempty"`    // PKCS #8 private key in PEM (P-256) for private_key_jwt
}

// OAuth is the authorization code flow: each person authorizes Warder once at the server's authorization
// server.
type OAuth struct {
	Client *Client `yaml:"client,omitempty"` // registration; default our metadata document, else dynamic registration
}

// ClientCredentials is the client credentials grant.
type ClientCredentials struct {
	Client Client `yaml:"client"` // registration
}

// Exchange is a token exchange. The subject is an assertion about the caller that Warder signs.
type Exchange struct {
	Client      Client     `yaml:"client"`                 // registration
	Audience    string     `yaml:"audience,omitempty"`     // logical name of the server, if its authorization server wants one besides the resource
	Subject     secret.Ref `yaml:"subject,omitempty"`      // a token to exchange instead, the same for every caller
	SubjectType string     `yaml:"subject_type,omitempty"` // "jwt" (default), "id_token" or "access_token"
}

// IDJAG is enterprise-managed authorization: the identity provider turns the person's identity into a
// grant for the server's authorization server.
type IDJAG struct {
	Client   Client     `yaml:"client"`            // registration at the server's authorization server
	Provider Client     `yaml:"provider"`          // registration at the identity provider
	Subject  secret.Ref `yaml:"subject,omitempty"` // an ID token, the same for every caller; default that of the person's login
}

// Workload is the JWT bearer grant with a JWT of the platform, such as a SPIFFE JWT-SVID or the token of a
// Kubernetes service account.
type Workload struct {
	ClientID string     `yaml:"client_id,omitempty"` // sent with the grant; default none
	Token    secret.Ref `yaml:"token"`               // the JWT, read anew each time
}

// Secret is a secret that the server is shown as it is: in a header of every request, or in the
// environment of a child process.
type Secret struct {
	Header string                `yaml:"header,omitempty"` // name; default Authorization
	Prefix string                `yaml:"prefix,omitempty"` // before the value, such as "Bearer "
	Value  secret.Ref            `yaml:"value,omitempty"`  // the secret of the header
	Env    map[string]secret.Ref `yaml:"env,omitempty"`    // for a child process: in its environment
	FD     map[string]secret.Ref `yaml:"fd,omitempty"`     // for a child process, on Linux: in a file that exists in memory only; the variable NAME_FILE says where
}

// Kinds of credentials, for the trail.
const (
	kindOAuth    = "oauth"
	kindClient   = "client_credentials"
	kindExchange = "exchange"
	kindIDJAG    = "id_jag"
	kindWorkload = "workload"
	kindSecret   = "secret"
)

// Kind names what is configured; empty if nothing is.
func (c *Credentials) Kind() string {
	switch {
	case c.OAuth != nil:
		return kindOAuth
	case c.ClientCredentials != nil:
		return kindClient
	case c.Exchange != nil:
		return kindExchange
	case c.IDJAG != nil:
		return kindIDJAG
	case c.Workload != nil:
		return kindWorkload
	case c.Secret != nil:
		return kindSecret
	default:
		return ""
	}
}

// Validate reports everything that is wrong, as one joined error.
func (c *Credentials) Validate() error {
	n := 0
	for _, set := range []bool{c.OAuth != nil, c.ClientCredentials != nil, c.Exchange != nil, c.IDJAG != nil, c.Workload != nil, c.Secret != nil} {
		if set {
			n++
		}
	}
	if n > 1 {
		return errors.New("credentials: set at most one of oauth, client_credentials, exchange, id_jag, workload and secret")
	}
	errs := []error{c.Authorization.validate()}
	switch {
	case c.OAuth != nil && c.OAuth.Client != nil:
		errs = append(errs, c.OAuth.Client.validate("oauth.client", false))
	case c.ClientCredentials != nil:
		errs = append(errs, c.ClientCredentials.Client.validate("client_credentials.client", true))
	case c.Exchange != nil:
		errs = append(errs, c.Exchange.Client.validate("exchange.client", false), optional("exchange.subject", c.Exchange.Subject))
		if _, ok := subjectTypes()[c.Exchange.SubjectType]; !ok {
			errs = append(errs, fmt.Errorf("exchange.subject_type %q: want jwt, id_token or access_token", c.Exchange.SubjectType))
		}
	case c.IDJAG != nil:
		errs = append(errs, c.IDJAG.Client.validate("id_jag.client", false), c.IDJAG.Provider.validate("id_jag.provider", false),
			optional("id_jag.subject", c.IDJAG.Subject))
	case c.Workload != nil:
		errs = append(errs, wrap("workload.token", c.Workload.Token.Validate()))
	case c.Secret != nil:
		errs = append(errs, c.Secret.validate())
	}
	return wrap("credentials", errors.Join(errs...))
}

func wrap(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", where, err)
}

func optional(where string, ref secret.Ref) error {
	if ref.IsZero() {
		return nil
	}
	return wrap(where, ref.Validate())
}

// subjectTypes are the words of subject_type.
func subjectTypes() map[string]string {
	return map[string]string{"": oauth.TypeJWT, "jwt": oauth.TypeJWT, "id_token": oauth.TypeID, "access_token": oauth.TypeAccess}
}

func (a Authorization) validate() error {
	var errs []error
	if !slices.Contains([]string{"", "auto", "required", "off"}, a.DPoP) {
		errs = append(errs, fmt.Errorf("authorization.dpop %q: want auto, required or off", a.DPoP))
	}
	for _, s := range a.Scopes {
		if !oauth.ValidScope(s) {
			errs = append(errs, fmt.Errorf("authorization.scopes: %q is no scope", s))
		}
	}
	for _, s := range a.Issuers {
		if u, err := url.Parse(s); err != nil || u.Host == "" {
			errs = append(errs, fmt.Errorf("authorization.issuers: %q is no issuer", s))
		}
	}
	return errors.Join(errs...)
}

func (c Client) validate(where string, confidential bool) error {
	var errs []error
	if c.Issuer == "" || c.ID == "" {
		errs = append(errs, errors.New("issuer and id must be set"))
	}
	if !slices.Contains([]string{"", oauth.MethodNone, oauth.MethodBasic, oauth.MethodPost, oauth.MethodKey}, c.Method) {
		errs = append(errs, fmt.Errorf("method %q", c.Method))
	}
	if confidential && c.Secret.IsZero() && c.Key.IsZero() {
		errs = append(errs, errors.New("secret or key must be set"))
	}
	errs = append(errs, optional("secret", c.Secret), optional("key", c.Key))
	return wrap(where, errors.Join(errs...))
}

func (s *Secret) validate() error {
	var errs []error
	if s.Value.IsZero() == (len(s.Env)+len(s.FD) == 0) {
		errs = append(errs, errors.New("secret: set either value, or env and fd"))
	}
	errs = append(errs, optional("secret.value", s.Value))
	if s.Header != "" && !settable(s.Header) {
		errs = append(errs, fmt.Errorf("secret.header %q cannot be set", s.Header))
	}
	if strings.ContainsFunc(s.Prefix, func(r rune) bool { return r < ' ' || r > '~' }) {
		errs = append(errs, errors.New("secret.prefix: printable ASCII only"))
	}
	for key, refs := range map[string]map[string]secret.Ref{"env": s.Env, "fd": s.FD} {
		for name, ref := range refs {
			if name == "" || strings.ContainsAny(name, "=\x00") {
				errs = append(errs, fmt.Errorf("secret.%s: %q is no variable", key, name))
			}
			errs = append(errs, wrap("secret."+key+" "+name, ref.Validate()))
		}
	}
	for name := range s.FD {
		if _, twice := s.Env[name+"_FILE"]; twice {
			errs = append(errs, fmt.Errorf("secret.fd: the variable %s_FILE is that of env", name))
		}
	}
	return errors.Join(errs...)
}

// settable reports whether a header of this name may carry a secret: a token (RFC 9110 section 5.6.2)
// that is not one of the transport's or the protocol's own.
func settable(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	canonical := http.CanonicalHeaderKey(name)
	if strings.HasPrefix(canonical, "Mcp-") || strings.HasPrefix(canonical, "Proxy-") {
		return false
	}
	switch canonical {
	case "Accept", "Accept-Encoding", "Content-Type", "Content-Length", "Content-Encoding", "Host", "Connection", "Transfer-Encoding",
		"Te", "Trailer", "Upgrade", "Expect", "Keep-Alive", "Last-Event-Id", "Dpop", "Traceparent", "Tracestate", "Baggage", "Origin":
		return false
	default:
		return name != ""
	}
}
