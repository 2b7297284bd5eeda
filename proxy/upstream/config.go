package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/tlsconf"
	"github.com/warder-mcp/warder/internal/unit"
)

// Values of Config.Era.
const (
	EraAuto   = "auto"   // find out, prefer the era of the client
	EraModern = "modern" // stateless requests only (2026-07-28)
	EraLegacy = "legacy" // sessions only (up to 2025-11-25)
)

// Values of Run.Instances.
const (
	PerPrincipal = "principal" // one child for each principal and set of client capabilities
	Shared       = "shared"    // one child for everybody; it is told of no client capabilities
)

// Config says how to reach one MCP server. Exactly one of URL, SSE and Run is set.
type Config struct {
	// URL is the Streamable HTTP endpoint. Plain http is refused unless the host is loopback or
	// allow_private is set.
	URL string `yaml:"url,omitempty"`
	// LegacyURL is the endpoint for sessions (up to 2025-11-25) of a server that serves the eras
	// apart; url then serves stateless requests.
	LegacyURL string `yaml:"legacy_url,omitempty"`
	// SSE is the event-stream endpoint of an HTTP+SSE server (2024-11-05).
	SSE string `yaml:"sse_url,omitempty"`
	// Run starts the server as a child process that speaks over stdin and stdout.
	Run *Run `yaml:"run,omitempty"`
	// Era is "auto" (default), "modern" or "legacy".
	Era string `yaml:"era,omitempty"`
	// Headers are sent with every HTTP request, such as credentials of Warder's own. Names of
	// protocol headers are refused.
	Headers map[string]secret.Ref `yaml:"headers,omitempty"`
	// TLS says how the server proves who it is.
	TLS tlsconf.Client `yaml:"tls,omitempty"`
	// Timeout ends a call when the server sent no message for so long (default 60s). It does not run
	// while a question of the server waits for the client.
	Timeout time.Duration `yaml:"timeout,omitempty"`
	// MaxCall ends a call whatever happens (default 10m). Subscriptions are exempt.
	MaxCall time.Duration `yaml:"max_call,omitempty"`
	// ConnectTimeout bounds resolving, connecting and the TLS handshake, and one write to a child
	// (default 10s).
	ConnectTimeout time.Duration `yaml:"connect_timeout,omitempty"`
	// ProbeTimeout bounds each step of finding out the era, including the start of a child (default
	// 20s).
	ProbeTimeout time.Duration `yaml:"probe_timeout,omitempty"`
	// IdleTimeout closes pooled sessions and children that nobody used for so long (default 10m).
	IdleTimeout time.Duration `yaml:"idle_timeout,omitempty"`
	// AllowPrivate permits private and shared addresses for this server's hosts. Loopback hosts are
	// permitted by being configured; metadata services never are.
	AllowPrivate bool `yaml:"allow_private,omitempty"`
	// MaxMessage bounds one message of the server (default 4MiB).
	MaxMessage unit.Bytes `yaml:"max_message,omitempty"`
	// MaxResponse bounds all messages of one call together (default 16MiB). Subscriptions are exempt.
	MaxResponse unit.Bytes `yaml:"max_response,omitempty"`
	// Restart delays new attempts after a child died.
	Restart Backoff `yaml:"restart,omitempty"`
	// Breaker stops asking a server that keeps failing.
	Breaker BreakerConfig `yaml:"breaker,omitempty"`
	// MaxIdleConns is how many idle HTTP connections are kept (default 64).
	MaxIdleConns int `yaml:"max_idle_conns,omitempty"`
	// MaxLinks bounds open sessions with the server (default 20000); for children see
	// run.max_children.
	MaxLinks int `yaml:"max_links,omitempty"`
}

// Run describes a child process. No shell is involved.
type Run struct {
	// Command is the program and its arguments.
	Command []string `yaml:"command"`
	// Env is added to the minimal environment (PATH, HOME, LANG).
	Env map[string]string `yaml:"env,omitempty"`
	// SecretEnv is added to the environment; the values are read when the child starts.
	SecretEnv map[string]secret.Ref `yaml:"secret_env,omitempty"`
	// Dir is the working directory (default: Warder's own).
	Dir string `yaml:"dir,omitempty"`
	// Instances is "principal" (default) or "shared".
	Instances string `yaml:"instances,omitempty"`
	// MaxChildren bounds the children of this server (default 64).
	MaxChildren int `yaml:"max_children,omitempty"`
	// Grace is how long a child may take to end after its stdin closed, and again after SIGTERM,
	// before it is killed (default 2s).
	Grace time.Duration `yaml:"grace,omitempty"`
}

// Backoff is the delay before a dead child is started again: it doubles from Min to Max with a
// random part, and starts over once a child lived for Max.
type Backoff struct {
	Min time.Duration `yaml:"min,omitempty"` // default 200ms
	Max time.Duration `yaml:"max,omitempty"` // default 30s
}

// BreakerConfig sets up the circuit breaker of one server.
type BreakerConfig struct {
	// Failures in a row that open the breaker (default 5): connections that fail or end before an
	// answer, and statuses 502, 503 and 504. Slow or wrong answers do not count, so one bad tool does
	// not close the others.
	Failures int `yaml:"failures,omitempty"`
	// Open is how long nothing is sent before one call may try again (default 10s).
	Open time.Duration `yaml:"open,omitempty"`
}

func orDuration(v, def time.Duration) time.Duration {
	if v <= 0 {
		return def
	}
	return v
}

// withDefaults fills what is not set.
func (c Config) withDefaults() Config {
	if c.Era == "" {
		c.Era = EraAuto
	}
	c.Timeout = orDuration(c.Timeout, time.Minute)
	c.MaxCall = orDuration(c.MaxCall, 10*time.Minute)
	c.ConnectTimeout = orDuration(c.ConnectTimeout, 10*time.Second)
	c.ProbeTimeout = orDuration(c.ProbeTimeout, 20*time.Second)
	c.IdleTimeout = orDuration(c.IdleTimeout, 10*time.Minute)
	c.Restart.Min = orDuration(c.Restart.Min, 200*time.Millisecond)
	c.Restart.Max = max(orDuration(c.Restart.Max, 30*time.Second), c.Restart.Min)
	c.Breaker.Open = orDuration(c.Breaker.Open, 10*time.Second)
	if c.Breaker.Failures <= 0 {
		c.Breaker.Failures = 5
	}
	if c.MaxMessage <= 0 {
		c.MaxMessage = 4 * unit.MiB
	}
	if c.MaxResponse <= 0 {
		c.MaxResponse = 16 * unit.MiB
	}
	c.MaxResponse = max(c.MaxResponse, c.MaxMessage)
	if c.MaxIdleConns <= 0 {
		c.MaxIdleConns = 64
	}
	if c.MaxLinks <= 0 {
		c.MaxLinks = 20000
	}
	if c.Run != nil {
		run := c.Run.withDefaults()
		c.Run = &run
	}
	return c
}

func (r Run) withDefaults() Run {
	if r.Instances == "" {
		r.Instances = PerPrincipal
	}
	if r.MaxChildren <= 0 {
		r.MaxChildren = 64
	}
	r.Grace = orDuration(r.Grace, 2*time.Second)
	return r
}

// Validate reports everything that is wrong with the configuration, as one joined error.
func (c Config) Validate() error {
	var errs []error
	kinds := 0
	for _, set := range []bool{c.URL != "", c.SSE != "", c.Run != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		errs = append(errs, errors.New("set exactly one of url, sse_url and run"))
	}
	if c.LegacyURL != "" && (c.URL == "" || c.Era == EraModern || c.Era == EraLegacy) {
		errs = append(errs, errors.New("legacy_url needs url and era auto"))
	}
	if c.SSE != "" && c.Era == EraModern {
		errs = append(errs, errors.New("sse_url serves the legacy era only"))
	}
	if !slices.Contains([]string{"", EraAuto, EraModern, EraLegacy}, c.Era) {
		errs = append(errs, fmt.Errorf("era %q: want auto, modern or legacy", c.Era))
	}
	for _, raw := range []string{c.URL, c.LegacyURL, c.SSE} {
		if raw != "" {
			_, err := c.endpoint(raw)
			errs = append(errs, err)
		}
	}
	errs = append(errs, c.validateHeaders(), c.validateTLS(), c.Run.validate())
	return errors.Join(errs...)
}

func (c Config) validateHeaders() error {
	var errs []error
	for name, ref := range c.Headers {
		if !validHeaderName(name) || protocolHeader(http.CanonicalHeaderKey(name)) {
			errs = append(errs, fmt.Errorf("headers: name %q cannot be set", name))
		}
		if err := ref.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("headers: %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// validateTLS checks all but the file of authorities, which may not exist yet.
func (c Config) validateTLS() error {
	probe := c.TLS
	probe.CAFile = ""
	if _, err := tlsconf.ClientConfig(probe); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	return nil
}

func (r *Run) validate() error {
	if r == nil {
		return nil
	}
	var errs []error
	if len(r.Command) == 0 || r.Command[0] == "" {
		errs = append(errs, errors.New("run: command is empty"))
	}
	for _, arg := range r.Command {
		if strings.IndexByte(arg, 0) >= 0 {
			errs = append(errs, errors.New("run: command contains a zero byte"))
		}
	}
	if !slices.Contains([]string{"", PerPrincipal, Shared}, r.Instances) {
		errs = append(errs, fmt.Errorf("run: instances %q: want principal or shared", r.Instances))
	}
	for name, value := range r.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.IndexByte(value, 0) >= 0 {
			errs = append(errs, fmt.Errorf("run: env %q is not a variable", name))
		}
	}
	for name, ref := range r.SecretEnv {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			errs = append(errs, fmt.Errorf("run: secret_env %q is not a variable", name))
		}
		if err := ref.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("run: secret_env %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// endpoint parses a configured URL.
func (c Config) endpoint(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("url %q: %w", raw, err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, fmt.Errorf("url %q: want https://host/path", raw)
	case u.User != nil:
		return nil, fmt.Errorf("url %q: credentials belong into headers", u.Redacted())
	case u.Fragment != "":
		return nil, fmt.Errorf("url %q: a fragment has no meaning here", raw)
	case u.Scheme == "http" && !c.AllowPrivate && !loopbackHost(u.Hostname()):
		return nil, fmt.Errorf("url %q: plain http needs a loopback host or allow_private", raw)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// loopbackHost reports whether a configured host means this machine.
func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// protocolHeader reports headers that the transport sets itself.
func protocolHeader(canonical string) bool {
	switch canonical {
	case hdrAccept, hdrAcceptEncoding, hdrContentType, "Content-Length", "Content-Encoding", "Host", "Connection",
		"Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect", "Keep-Alive", "Proxy-Connection",
		hdrVersion, hdrMethod, hdrName, hdrSession, hdrLastEvent:
		return true
	default:
		return false
	}
}

// validHeaderName reports whether name is a token (RFC 9110 section 5.6.2).
func validHeaderName[T string | []byte](name T) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return len(name) > 0
}
