package config

import (
	"errors"
	"fmt"
	"time"

	warder "github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/login"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/layer/gateway"
	"github.com/warder-mcp/warder/layer/identity"
	"github.com/warder-mcp/warder/layer/input"
	"github.com/warder-mcp/warder/layer/network"
	"github.com/warder-mcp/warder/layer/output"
	"github.com/warder-mcp/warder/layer/record"
	"github.com/warder-mcp/warder/layer/tools"
	credentials "github.com/warder-mcp/warder/layer/upstream"
	"github.com/warder-mcp/warder/proxy"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/revocation/signals"
	"github.com/warder-mcp/warder/store"
)

// A Config is the whole configuration file, in the order of the path.
type Config struct {
	// Version is the version of the file format. The only one is 1; leaving it out means 1.
	Version int `yaml:"version"`

	// Data is the folder for keys, the database and the audit log, created with mode 0700.
	// Default: .warder beside the configuration file.
	Data string `yaml:"data"`

	// State says where Warder keeps what it remembers: in the data folder, or where several gateways share it.
	State State `yaml:"state"`

	// Listen lists the front doors. Without one, nothing listens.
	Listen []Listener `yaml:"listen"`

	// Limits bounds the data plane: sizes, times, sessions.
	Limits proxy.Config `yaml:"limits"`

	// Network says who may connect: hosts, origins, versions of TLS.
	Network network.Config `yaml:"network"`

	// Gateway says what is proper MCP: rates, loops, state, extensions, deprecated features.
	Gateway gateway.Config `yaml:"gateway"`

	// Identity says whose tokens are accepted.
	Identity identity.Config `yaml:"identity"`

	// Issuer is Warder's own authorization server, which lets people log in and issues tokens. Without a
	// url there is none.
	Issuer Issuer `yaml:"issuer"`

	// Signals says with whom revocations are exchanged: CAEP, RISC and OpenID Connect logout tokens in, at
	// /signals/events and /signals/logout, and security event tokens out.
	Signals signals.Config `yaml:"signals"`

	// Tools says how definitions come to be approved.
	Tools tools.Config `yaml:"tools"`

	// Input bounds the arguments of calls and the answers of clients.
	Input input.Config `yaml:"input"`

	// Access says by which policies calls are allowed. Without a policy every call is denied.
	Access access.Config `yaml:"access"`

	// Secrets says where references to secrets find them, besides files, variables and commands.
	Secrets secret.Stores `yaml:"secrets"`

	// Upstream says who Warder is to the authorization servers of the servers behind it.
	Upstream credentials.Config `yaml:"upstream"`

	// Servers lists the MCP servers behind the gateway. Each is reached at /mcp/NAME.
	Servers []Server `yaml:"servers"`

	// Groups lists endpoints that aggregate several servers at /mcp/NAME. Names of tools and prompts
	// get the prefix SERVER__.
	Groups []Group `yaml:"groups"`

	// Output bounds and cleans the answers of servers.
	Output output.Config `yaml:"output"`

	// Record says where the audit trail is kept and where traces go.
	Record record.Config `yaml:"record"`

	// Controls changes the mode of single controls by id. Every control not named here is enforced.
	Controls map[warder.ControlID]Control `yaml:"controls"`

	// Admin is what operators see: health, readiness and metrics, and the admin API.
	Admin Admin `yaml:"admin"`
}

// A State says where Warder keeps what it remembers.
type State struct {
	// Key refers to 32 bytes in base64 with which secrets are sealed before they are stored; gateways that
	// share state share it. Default: a key of its own in the data folder. Required with postgres.
	Key secret.Ref `yaml:"key"`

	store.Config `yaml:",inline"`
}

// Validate reports what makes no sense in the section.
func (s State) Validate() error {
	errs := []error{s.Config.Validate()}
	switch {
	case !s.Key.IsZero():
		if err := s.Key.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("key: %w", err))
		}
	case s.Shared():
		errs = append(errs, errors.New("key: gateways that share state need one key"))
	}
	return errors.Join(errs...)
}

// An Issuer is Warder's own authorization server and the pages on which people log in.
type Issuer struct {
	issuer.Config `yaml:",inline"`

	// Login says how people log in. Without it the server issues tokens to workloads only.
	Login login.Config `yaml:"login"`
}

// Validate reports what makes no sense in the section.
func (i Issuer) Validate() error {
	if i.URL == "" && i.Login.Local.Enabled {
		return errors.New("url: people can log in only where there is an issuer")
	}
	var errs []error
	if i.URL != "" {
		errs = append(errs, i.Config.Validate())
	}
	if err := i.Login.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("login: %w", err))
	}
	return errors.Join(errs...)
}

// LegacySSE reports whether the front doors open the HTTP+SSE transport of 2024-11-05.
func (c *Config) LegacySSE() bool { return c.Gateway.Deprecated.HTTPSSE }

// A Listener is one front door for HTTP.
type Listener struct {
	// Address to listen on, host:port. Without a host it is every interface, which requires tls.
	Address string `yaml:"address"`

	// TLS holds the certificate of the front door. It may be left out only on a loopback address.
	TLS *TLS `yaml:"tls"`
}

// A TLS is the server side of TLS at a listener.
type TLS struct {
	// Cert refers to the PEM certificate chain.
	Cert secret.Ref `yaml:"cert"`

	// Key refers to the PEM private key.
	Key secret.Ref `yaml:"key"`

	// ClientCA refers to the PEM certificates that client certificates must chain to. Without it no
	// client certificate is asked for.
	ClientCA secret.Ref `yaml:"client_ca"`

	// RequestClientCert asks clients for a certificate without demanding one. The identity layer judges it:
	// tokens may be bound to it (IAM-06), and it may be a credential of its own (IAM-01).
	RequestClientCert bool `yaml:"request_client_cert"`
}

// A Server is one MCP server behind the gateway.
type Server struct {
	// Name of the server: a lower-case letter or digit, then those and single hyphens.
	Name string `yaml:"name"`

	// Resource is the canonical URI that tokens for this server name as audience (RFC 8707).
	// Default: the public address of the gateway followed by /mcp/NAME.
	Resource string `yaml:"resource"`

	// Labels are data labels that everything the server returns carries.
	Labels []string `yaml:"labels"`

	// Credentials says what the server is shown in place of the caller's credential, which it never gets.
	// Default: nothing.
	Credentials credentials.Credentials `yaml:"credentials,omitempty"`

	// Config says how the server is reached: exactly one of url, sse_url and run.
	upstream.Config `yaml:",inline"`
}

// A Group is one endpoint that aggregates several servers.
type Group struct {
	// Name of the endpoint; differs from every server's.
	Name string `yaml:"name"`

	// Resource is the canonical URI that tokens for this group name as audience (RFC 8707).
	Resource string `yaml:"resource"`

	// Servers lists the names of the servers in the group.
	Servers []string `yaml:"servers"`
}

// A Control changes how one control acts. It is a documented, dated exception.
type Control struct {
	// Mode is enforce, monitor (record what would have been refused and let it pass) or off.
	// Default: enforce.
	Mode Mode `yaml:"mode"`

	// Owner is who answers for the exception. Required for monitor and off.
	Owner string `yaml:"owner"`

	// Until is the last day of the exception, YYYY-MM-DD in UTC; the control is enforced again from
	// the day after. Required for monitor and off.
	Until Date `yaml:"until"`
}

// ModeAt returns the mode in force at the given time. An exception that has ended enforces.
func (c Control) ModeAt(now time.Time) Mode {
	if c.Mode == Enforce || c.Owner == "" || c.Until.IsZero() || !now.Before(c.Until.AddDate(0, 0, 1)) {
		return Enforce
	}
	return c.Mode
}

// An Admin is what operators see.
type Admin struct {
	// Address to listen on, host:port, on a loopback address, for health, readiness and metrics. Empty:
	// no such listener.
	Address string `yaml:"address"`

	// API is the API with which operators decide, revoke and look.
	API admin.Config `yaml:"api"`
}
