// Package secret keeps secret values out of configuration, logs and errors: configuration holds a
// [Ref] that says where the value is, and the value itself is a [Value] that prints as "[redacted]".
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"
)

// maxSize bounds a secret; keys and tokens are far smaller.
const maxSize = 64 << 10

// A Ref says where a secret is. Exactly one field is set; the value never stands in configuration.
type Ref struct {
	File string   `yaml:"file,omitempty"` // file that holds the secret; a trailing newline is cut
	Env  string   `yaml:"env,omitempty"`  // environment variable that holds the secret
	Exec []string `yaml:"exec,omitempty"` // command that prints the secret; no shell is involved
}

// IsZero reports whether the reference names nothing.
func (r Ref) IsZero() bool { return r.File == "" && r.Env == "" && len(r.Exec) == 0 }

// Validate reports whether exactly one source is named.
func (r Ref) Validate() error {
	n := 0
	for _, set := range []bool{r.File != "", r.Env != "", len(r.Exec) > 0} {
		if set {
			n++
		}
	}
	if n != 1 {
		return errors.New("secret reference: set exactly one of file, env and exec")
	}
	return nil
}

// Read fetches the secret. Errors name the source, never the value.
func (r Ref) Read(ctx context.Context) (Value, error) {
	if err := r.Validate(); err != nil {
		return Value{}, err
	}
	switch {
	case r.File != "":
		return readFile(r.File)
	case r.Env != "":
		v, ok := os.LookupEnv(r.Env)
		if !ok || v == "" {
			return Value{}, fmt.Errorf("secret: environment variable %s is empty", r.Env)
		}
		return New([]byte(v)), nil
	default:
		return readExec(ctx, r.Exec)
	}
}

func readFile(name string) (Value, error) {
	f, err := os.Open(name)
	if err != nil {
		return Value{}, fmt.Errorf("secret: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return Value{}, fmt.Errorf("secret: read %s: %w", name, err)
	}
	return checked(b, name)
}

func readExec(ctx context.Context, argv []string) (Value, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out, err := cmd.Output() // stderr of the helper is not repeated: it may hold the secret
	if err != nil {
		return Value{}, fmt.Errorf("secret: helper %s: %w", argv[0], err)
	}
	return checked(out, argv[0])
}

func checked(b []byte, source string) (Value, error) {
	b = bytes.TrimRight(b, "\r\n")
	if len(b) == 0 || len(b) > maxSize {
		return Value{}, fmt.Errorf("secret: %s holds %d bytes, want 1 to %d", source, len(b), maxSize)
	}
	return New(b), nil
}

// A Value is a secret in memory. Every way of printing it yields "[redacted]".
type Value struct{ b []byte }

// New wraps b, which the caller no longer uses.
func New(b []byte) Value { return Value{b: b} }

// Bytes reveals the secret to the code that must use it.
func (v Value) Bytes() []byte { return v.b }

const redacted = "[redacted]"

// String hides the secret.
func (Value) String() string { return redacted }

// GoString hides the secret from %#v.
func (Value) GoString() string { return redacted }

// LogValue hides the secret from slog.
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the secret from JSON, YAML and XML encoders.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
