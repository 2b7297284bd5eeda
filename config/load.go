package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// MaxBytes bounds the size of a configuration file.
const MaxBytes = 1 << 20

// Load reads, checks and completes a configuration file. The error is [Problems] when the file could
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

// Parse checks a configuration and returns it, or every [Problems] found in it. The name is used in
// messages only.
func Parse(name string, data []byte) (*Config, error) {
	if len(data) > MaxBytes {
		return nil, Problems{{File: name, Message: fmt.Sprintf("the file is larger than %d bytes", MaxBytes)}}
	}
	c := newChecker(name, data)
	cfg := Default()
	root, ok := c.document(data)
	if !ok {
		return nil, c.problems.sorted()
	}
	if root != nil {
		c.check(root)
		if !c.unsafe {
			c.decode(root, cfg)
		}
	}
	c.validate(Validate(cfg))
	if len(c.problems) > 0 {
		return nil, c.problems.sorted()
	}
	return cfg, nil
}

// document composes the only document of the file. The node is nil when the file holds none.
func (c *checker) document(data []byte) (root *yaml.Node, ok bool) {
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithUniqueKeys(false))
	if err != nil {
		c.problems = append(c.problems, Problem{File: c.file, Message: err.Error()})
		return nil, false
	}
	var doc yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil, true
	} else if err != nil {
		c.syntax(err)
		return nil, false
	}
	if len(doc.Content) == 1 {
		root = doc.Content[0]
	}
	var second yaml.Node
	if err := loader.Load(&second); err == nil {
		c.report(&second, "", "a second document", "keep one document per file: remove the line \"---\" and what follows")
	} else if !errors.Is(err, io.EOF) {
		c.syntax(err)
		return nil, false
	}
	return root, true
}

// syntax reports what the YAML parser could not read.
func (c *checker) syntax(err error) {
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		p := Problem{File: c.file, Line: e.Mark.Line, Column: e.Mark.Column, Message: "not YAML: " + visible(clip(e.Message))}
		if strings.Contains(e.Message, "tab") {
			p.Hint = "indent with spaces"
		}
		p.Column = max(p.Column, 1)
		p.place(c.lines, "")
		c.problems = append(c.problems, p)
		return
	}
	c.problems = append(c.problems, Problem{File: c.file, Message: "not YAML: " + visible(clip(err.Error()))})
}

// decode fills cfg. Whatever the YAML package refuses beyond our own check becomes a problem.
func (c *checker) decode(root *yaml.Node, cfg *Config) {
	err := root.Load(cfg, yaml.WithKnownFields())
	if err == nil {
		return
	}
	all, ok := errors.AsType[*yaml.LoadErrors](err)
	if !ok {
		if len(c.problems) == 0 {
			c.syntax(err)
		}
		return
	}
	for _, e := range all.Errors {
		if c.seen(e.Mark.Line, e.Mark.Column) {
			continue
		}
		c.syntax(e)
	}
}
