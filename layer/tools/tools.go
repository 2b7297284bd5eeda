package tools

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
)

// A Trust says what happens to a definition about whose name nobody ever decided.
type Trust string

// Ways to trust a server.
const (
	TrustApproved Trust = "approved"  // quarantined until a person approves it; the default
	TrustFirstUse Trust = "first_use" // pinned as it is first seen: weaker, for servers of one's own
)

// Config says how definitions are vetted.
type Config struct {
	// Refresh is how old a list of definitions may be when a call is judged by it. An older one is
	// fetched again first. Default 60s.
	Refresh time.Duration `yaml:"refresh"`

	// Trust says what happens to a new definition: "approved" (default) keeps it in quarantine until
	// someone approves it, "first_use" pins it as it is first seen, which is weaker: whoever controls
	// the server at that moment decides. A changed definition is quarantined either way.
	Trust Trust `yaml:"trust"`

	// Servers overrides trust for single servers, by name.
	Servers map[string]Trust `yaml:"servers"`
}

// Default returns the strict configuration.
func Default() Config { return Config{Refresh: time.Minute, Trust: TrustApproved} }

// Check returns every error of the configuration.
func (c Config) Check() error {
	var errs []error
	if c.Refresh < 0 {
		errs = append(errs, fmt.Errorf("refresh: %s is negative", c.Refresh))
	}
	if !c.Trust.valid() {
		errs = append(errs, fmt.Errorf("trust: %q is not %q or %q", c.Trust, TrustApproved, TrustFirstUse))
	}
	for server, trust := range c.Servers {
		if !trust.valid() {
			errs = append(errs, fmt.Errorf("servers.%s: %q is not %q or %q", server, trust, TrustApproved, TrustFirstUse))
		}
	}
	return errors.Join(errs...)
}

func (t Trust) valid() bool { return t == "" || t == TrustApproved || t == TrustFirstUse }

// A Registry knows what was decided about a definition.
type Registry interface {
	// Resolve returns the quarantined form of a definition as a server sent it. An error says that it
	// can never be approved.
	Resolve(server, kind string, raw []byte) (*warder.Tool, error)

	// Current returns the definition of a digest in its present state; the reason is empty if it is
	// approved, and only then it is complete. An error says that nothing is known.
	Current(server, kind, name string, digest warder.Digest) (*warder.Tool, warder.Reason, error)

	// Pin approves those resolved definitions about whose name nobody ever decided.
	Pin(ctx context.Context, tools []*warder.Tool) error
}

// A Lister asks the server of an exchange, as its principal, for every definition of a kind ("tool"
// or "prompt"): one valid JSON value each, as the server wrote it, of all pages in order.
type Lister interface {
	List(ctx context.Context, x *warder.Exchange, kind string) ([][]byte, error)
}

// A Visibility says whether the principal of an exchange may see a definition. The tool may be
// quarantined; for resources and templates it has kind, server and name only.
type Visibility interface {
	Visible(ctx context.Context, x *warder.Exchange, tool *warder.Tool) (bool, error)
}

// Deps is what the layer works with. Definitions and Visibility must be set.
type Deps struct {
	Definitions *Definitions
	Visibility  Visibility
	// Listed says which of the visible definitions stand in lists. A call of one that does not is not hidden:
	// what refuses it says why. Nil: Visibility.
	Listed Visibility
}

// New returns the layer.
func New(cfg Config, deps Deps) (warder.Layer, error) {
	if err := cfg.Check(); err != nil {
		return warder.Layer{}, fmt.Errorf("tools: %w", err)
	}
	if deps.Definitions == nil || deps.Visibility == nil {
		return warder.Layer{}, errors.New("tools: definitions or visibility missing")
	}
	d := deps.Definitions
	if deps.Listed == nil {
		deps.Listed = deps.Visibility
	}
	return warder.Layer{
		Name: "tools",
		Request: []warder.Interceptor{
			&visibleTarget{d, deps.Visibility},
			&approvedTarget{d},
		},
		Response: []warder.Interceptor{
			&approvedList{d},
			&approvedInstructions{d},
			&visibleList{d, deps.Listed},
			&sameAbsence{},
		},
	}, nil
}
