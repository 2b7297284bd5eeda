package access

import (
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
)

// Config is the access section of the configuration. Without policies everything is denied.
type Config struct {
	Policies []string            `yaml:"policies"` // policy files; the last path element may be a pattern such as *.cedar
	Inline   string              `yaml:"inline"`   // further policies as text
	Groups   map[string][]string `yaml:"groups"`   // group to the groups it is a member of
	Reassess time.Duration       `yaml:"reassess"` // how often a running stream is authorised again; zero means 30s, at most 10m
}

// Interval of reassessment.
const (
	defaultReassess = 30 * time.Second
	maxReassess     = 10 * time.Minute
)

// Default returns the configuration without policies: everything is denied.
func Default() Config { return Config{Reassess: defaultReassess} }

// Validate reports every fault at once.
func (c Config) Validate() error {
	var errs []error
	if c.Reassess < 0 || c.Reassess > maxReassess {
		errs = append(errs, fmt.Errorf("reassess: %v is not between 0 and %v", c.Reassess, maxReassess))
	}
	for i, p := range c.Policies {
		if p == "" {
			errs = append(errs, fmt.Errorf("policies[%d]: empty", i))
		}
	}
	return errors.Join(errs...)
}

// Deps are what the layer needs from outside.
type Deps struct {
	// Authorizer decides. Required.
	Authorizer Authorizer
	// MetadataURL is where a client learns how to get a token for an endpoint (RFC 9728 section 3.1); it
	// goes into the challenge when only scopes are missing. Nil means such a refusal is a plain denial.
	MetadataURL func(endpoint string) string
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

func (d *Deps) fill() error {
	if d.Authorizer == nil {
		return errors.New("access: no authorizer")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return nil
}

// New builds the layer.
func New(cfg Config, deps Deps) (warder.Layer, error) {
	if err := cfg.Validate(); err != nil {
		return warder.Layer{}, fmt.Errorf("access: %w", err)
	}
	if err := deps.fill(); err != nil {
		return warder.Layer{}, err
	}
	every := cfg.Reassess
	if every == 0 {
		every = defaultReassess
	}
	again := newReassess(deps, every)
	return warder.Layer{
		Name:     "access",
		Request:  []warder.Interceptor{&everyMessage{deps: deps}},
		Response: []warder.Interceptor{again},
		Complete: []warder.Recorder{again},
	}, nil
}
