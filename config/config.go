package config

import (
	"time"

	warder "github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/layer/network"
)

// A Config is the whole configuration file, in the order of the path.
type Config struct {
	// Version is the version of the file format. The only one is 1; leaving it out means 1.
	Version int `yaml:"version"`

	// Data is the folder for keys, the database and the audit log, created with mode 0700.
	// Default: .warder beside the configuration file.
	Data string `yaml:"data"`

	// Listen lists the front doors. Without one, nothing listens.
	Listen []Listener `yaml:"listen"`

	// Network says which hosts and origins clients may use, and how TLS is spoken.
	Network network.Config `yaml:"network"`

	// Servers lists the MCP servers behind the gateway. Each is reached at /mcp/NAME.
	Servers []Server `yaml:"servers"`

	// Groups lists endpoints that aggregate several servers at /mcp/NAME. Names of tools and prompts
	// get the prefix SERVER__.
	Groups []Group `yaml:"groups"`

	// Controls changes the mode of single controls by id. Every control not named here is enforced.
	Controls map[warder.ControlID]Control `yaml:"controls"`

	// Admin is the listener for health, readiness and metrics.
	Admin Admin `yaml:"admin"`
}

// A Listener is one front door for HTTP.
type Listener struct {
	// Address to listen on, host:port. Without a host it is every interface, which requires tls.
	Address string `yaml:"address"`

	// TLS holds the certificate of the front door. It may be left out only on a loopback address.
	TLS *TLS `yaml:"tls"`

	// LegacySSE opens the HTTP+SSE transport of revision 2024-11-05 on this listener as well.
	LegacySSE bool `yaml:"legacy_sse"`
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

// An Admin is the listener for health, readiness and metrics.
type Admin struct {
	// Address to listen on, host:port, on a loopback address. Empty: no such listener.
	Address string `yaml:"address"`
}
