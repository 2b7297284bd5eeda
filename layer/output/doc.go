// Package output is the line of defence that judges what servers say: is the answer harmless.
//
// It is the first layer an answer meets on its way back. In Response, for every message:
//
//	OUT-03  a message, an answer and what a caller receives over time stay within their sizes
//	OUT-04  errors tell nothing of the inside of a server: no stack, path, address, version
//	PRT-07  answers are cacheable for their caller only, and not for long (2026-07-28)
//
// OUT-04 and PRT-07 splice single values; every other byte of the message stays as the server wrote
// it. What OUT-04 takes out is recorded, masked and cut, as a finding.
package output

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/unit"
)

// Config is the section "output" of the configuration. Zero values mean the defaults of [Default].
type Config struct {
	// MaxMessage is the size of one message of an answer. Default 4MiB.
	MaxMessage unit.Bytes `yaml:"max_message"`

	// MaxAnswer is the size of all messages of one answer together. Streams that do not end
	// (subscriptions) are bounded by the volume alone. Default 16MiB.
	MaxAnswer unit.Bytes `yaml:"max_answer"`

	// Volume bounds what one caller receives over time, in answers of any size.
	Volume Volume `yaml:"volume"`

	// BaselineFactor is how many times larger than a tool's usual result one must be to be reported.
	// Default 20.
	BaselineFactor float64 `yaml:"baseline_factor"`

	// MaxErrorText is the length of one error text; the rest is cut off. Default 4KiB.
	MaxErrorText unit.Bytes `yaml:"max_error_text"`

	// MaxTTL is the longest time a client may keep an answer. A revoked tool stays in its list so
	// long. Default 5m.
	MaxTTL time.Duration `yaml:"max_ttl"`

	// PublicServers names servers whose server/discover and resources/read answer every caller the
	// same, so that "cacheScope":"public" may stand. Lists are filtered by caller and never public.
	PublicServers []string `yaml:"public_servers"`
}

// A Volume is what one caller may receive within a sliding window.
type Volume struct {
	Window time.Duration `yaml:"window"` // length of the window; default 10m
	Alert  unit.Bytes    `yaml:"alert"`  // reported from here on; default 64MiB
	Limit  unit.Bytes    `yaml:"limit"`  // refused from here on; default 256MiB
}

// Default returns the defaults.
func Default() Config {
	return Config{
		MaxMessage: 4 * unit.MiB, MaxAnswer: 16 * unit.MiB, BaselineFactor: 20, MaxErrorText: 4 * unit.KiB,
		Volume: Volume{Window: 10 * time.Minute, Alert: 64 * unit.MiB, Limit: 256 * unit.MiB},
		MaxTTL: 5 * time.Minute,
	}
}

// Check returns every error of the configuration.
func (c Config) Check() error {
	c = c.orDefault()
	var errs []error
	for _, f := range []struct {
		name string
		ok   bool
	}{
		{"max_message", c.MaxMessage > 0},
		{"max_answer", c.MaxAnswer > 0},
		{"max_error_text", c.MaxErrorText > 0},
		{"volume.window", c.Volume.Window > 0},
		{"volume.alert", c.Volume.Alert > 0},
		{"volume.limit", c.Volume.Limit > 0},
		{"baseline_factor", c.BaselineFactor > 1},
		{"max_ttl", c.MaxTTL > 0},
	} {
		if !f.ok {
			errs = append(errs, fmt.Errorf("output.%s: not in its range", f.name))
		}
	}
	return errors.Join(errs...)
}

func (c Config) orDefault() Config {
	d := Default()
	c.MaxMessage = cmp.Or(c.MaxMessage, d.MaxMessage)
	c.MaxAnswer = cmp.Or(c.MaxAnswer, d.MaxAnswer)
	c.MaxErrorText = cmp.Or(c.MaxErrorText, d.MaxErrorText)
	c.Volume.Window = cmp.Or(c.Volume.Window, d.Volume.Window)
	c.Volume.Alert = cmp.Or(c.Volume.Alert, d.Volume.Alert)
	c.Volume.Limit = cmp.Or(c.Volume.Limit, d.Volume.Limit)
	c.BaselineFactor = cmp.Or(c.BaselineFactor, d.BaselineFactor)
	c.MaxTTL = cmp.Or(c.MaxTTL, d.MaxTTL)
	return c
}

// Deps is what the layer needs from others.
type Deps struct {
	Now func() time.Time // nil: time.Now
}

// New builds the layer.
func New(cfg Config, deps Deps) (warder.Layer, error) {
	if err := cfg.Check(); err != nil {
		return warder.Layer{}, err
	}
	cfg = cfg.orDefault()
	if deps.Now == nil {
		deps.Now = time.Now
	}
	cleaner, err := newCleaner(int(cfg.MaxErrorText))
	if err != nil {
		return warder.Layer{}, err
	}
	return warder.Layer{
		Name: "output",
		Response: []warder.Interceptor{
			newSizes(cfg, deps.Now),
			&hygiene{cleaner},
			&cacheScope{longest: cfg.MaxTTL, public: cfg.PublicServers},
		},
	}, nil
}
