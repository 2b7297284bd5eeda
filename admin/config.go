package admin

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/tlsconf"
)

// A Config says how operators reach the admin API and what they may do.
type Config struct {
	// Address to listen on, host:port. Empty: the API is reached through the socket of the data folder
	// only. Outside a loopback address tls is required.
	Address string `yaml:"address"`

	// TLS holds the certificate of the listener.
	TLS *TLS `yaml:"tls"`

	// Audience is the public URL of the API, such as https://admin.example.com/admin/v1. Access tokens
	// must name it as their only audience (RFC 8707), and clients find the authorization server through
	// its metadata (RFC 9728). Required with address.
	Audience string `yaml:"audience"`

	// Roles says which groups have which role. Without a group a role belongs to nobody.
	Roles Roles `yaml:"roles"`

	// Factor says what counts as a phishing-resistant second factor (control PUB-08).
	Factor Factor `yaml:"factor"`

	// LocalOwner says whether the user who runs the gateway may do destructive things over the socket
	// without a second factor. That user can read every key of the data folder, so little is lost by
	// it; false keeps scripts on that machine from doing so by accident. Default: true.
	LocalOwner bool `yaml:"local_owner"`

	// Alert is told about every use of break-glass.
	Alert Webhook `yaml:"alert"`
}

// A TLS is the server side of TLS at the admin listener.
type TLS struct {
	// Cert refers to the PEM certificate chain.
	Cert secret.Ref `yaml:"cert"`

	// Key refers to the PEM private key.
	Key secret.Ref `yaml:"key"`

	// ClientCA refers to the PEM certificates that client certificates must chain to. Without it no
	// client certificate is asked for.
	ClientCA secret.Ref `yaml:"client_ca"`
}

// Roles maps groups of the identity provider to roles of operators.
type Roles struct {
	// Viewer lists the groups that may read everything but the arguments of held calls.
	Viewer []string `yaml:"viewer"`

	// Approver lists the groups that decide about grants and held calls.
	Approver []string `yaml:"approver"`

	// Operator lists the groups that revoke, register agents and decide about definitions.
	Operator []string `yaml:"operator"`

	// SecurityAdmin lists the groups that lift revocations, rotate keys and remove credentials.
	SecurityAdmin []string `yaml:"security_admin"`

	// Owner lists the groups that may do everything.
	Owner []string `yaml:"owner"`
}

// A Factor says which logins are phishing-resistant.
type Factor struct {
	// ACR lists the authentication context classes that count. Default: phr and phrh (OpenID Connect
	// Extended Authentication Profile, section 4).
	ACR []string `yaml:"acr"`

	// AMR lists the authentication methods any of which counts (RFC 8176). Default: hwk and fido. An
	// empty list, written [], lets no method count.
	AMR []string `yaml:"amr"`

	// MaxAge is how long ago the login may have been. Default and most: 5m.
	MaxAge time.Duration `yaml:"max_age"`

	// MTLS says whether a token that is bound to the client certificate of the connection (RFC 8705)
	// counts. The login must still be as recent as max_age says.
	MTLS bool `yaml:"mtls"`
}

// A Webhook is where alerts go.
type Webhook struct {
	// URL is posted to. Empty: alerts are written to the audit trail and the log only.
	URL string `yaml:"url"`

	// Secret refers to the key of the HMAC-SHA-256 that signs each alert, at least 32 bytes. Required
	// with url.
	Secret secret.Ref `yaml:"secret"`
}

// Default is the configuration in force when the file says nothing: no listener, and the user who runs
// the gateway may do everything over the socket.
func Default() Config { return Config{LocalOwner: true} }

// maxFactorAge is the default and the most of Factor.MaxAge.
const maxFactorAge = 5 * time.Minute

// Validate reports every way in which the configuration cannot work.
func (c *Config) Validate() error {
	var errs []error
	if c.Address != "" {
		if c.Audience == "" {
			errs = append(errs, errors.New("audience: required with address"))
		}
		if c.TLS == nil {
			if err := tlsconf.CheckPlaintext(c.Address, false); err != nil {
				errs = append(errs, fmt.Errorf("tls: %w", err))
			}
		}
	}
	if c.Audience != "" {
		errs = append(errs, checkAudience(c.Audience))
	}
	if c.Factor.MaxAge < 0 || c.Factor.MaxAge > maxFactorAge {
		errs = append(errs, fmt.Errorf("factor.max_age: want at most %s", maxFactorAge))
	}
	errs = append(errs, c.Alert.validate())
	return errors.Join(errs...)
}

func checkAudience(audience string) error {
	u, err := url.Parse(audience)
	switch {
	case err != nil:
		return fmt.Errorf("audience: %w", err)
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "", u.RawQuery != "", u.Fragment != "", u.User != nil:
		return errors.New("audience: want the absolute URL of the API, without query and fragment")
	case u.Scheme == "http" && tlsconf.CheckPlaintext(hostPort(u), false) != nil:
		return errors.New("audience: want https outside loopback")
	default:
		return nil
	}
}

func hostPort(u *url.URL) string {
	if u.Port() == "" {
		return u.Host + ":80"
	}
	return u.Host
}

func (w *Webhook) validate() error {
	if w.URL == "" {
		return nil
	}
	u, err := url.Parse(w.URL)
	switch {
	case err != nil:
		return fmt.Errorf("alert.url: %w", err)
	case u.Scheme != "https" && (u.Scheme != "http" || tlsconf.CheckPlaintext(hostPort(u), false) != nil) || u.Host == "":
		return errors.New("alert.url: want an https URL")
	}
	if err := w.Secret.Validate(); err != nil {
		return fmt.Errorf("alert.secret: %w", err)
	}
	return nil
}
