package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/warder-mcp/warder/internal/strictyaml"
)

// A Problem is one thing wrong with a configuration.
type Problem = strictyaml.Problem

// An Error is everything wrong with a configuration, in the order of the file.
type Error = strictyaml.Error

// MaxBytes bounds the size of a configuration file.
const MaxBytes = 1 << 20

// Load reads, checks and completes a configuration file. The error is an [*Error] when the file could
// be read but is not valid.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	cfg, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	if cfg.Data == "" {
		cfg.Data = filepath.Join(filepath.Dir(path), ".warder")
	}
	return cfg, nil
}

// Parse checks a configuration and returns it, or an [*Error] with every problem found in it. The name is used in
// messages only.
func Parse(name string, data []byte) (*Config, error) {
	if len(data) > MaxBytes {
		return nil, &Error{Problems: []Problem{{File: name, Message: fmt.Sprintf("the file is larger than %d bytes", MaxBytes)}}}
	}
	cfg := Default()
	if err := strictyaml.Decode(name, data, cfg, func() []Problem {
		cfg.Identity.LocalIssuer = cfg.Issuer.URL // its tokens are accepted
		return Validate(cfg)
	}); err != nil {
		return nil, err
	}
	return cfg, nil
}
