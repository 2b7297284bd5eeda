// Package secret keeps secret values out of configuration, logs and errors: configuration holds a
// [Ref] that says where the value is, and the value itself is a [Value] that prints as "[redacted]".
package secret

import (
	"bytes"
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"
)

// maxSize bounds a secret; keys and tokens are far smaller.
const maxSize = 64 << 10

// A Ref says where a secret is. Exactly one field is set; the value never stands in configuration.
type Ref struct {
	File string   `yaml:"file,omitempty"` // file that holds the secret; a trailing newline is cut
	Env  string   `yaml:"env,omitempty"`  // environment variable that holds the secret
	Exec []string `yaml:"exec,omitempty"` // command that prints the secret; no shell is involved

	Vault *VaultRef `yaml:"vault,omitempty"` // secret of a HashiCorp Vault or OpenBao of secrets.vault
	AWS   *AWSRef   `yaml:"aws,omitempty"`   // secret of an AWS Secrets Manager, or ciphertext of an AWS KMS, of secrets.aws
	Age   *AgeRef   `yaml:"age,omitempty"`   // file encrypted to an age identity of secrets.age
}

// IsZero reports whether the reference names nothing.
func (r Ref) IsZero() bool {
	return r.File == "" && r.Env == "" && len(r.Exec) == 0 && r.Vault == nil && r.AWS == nil && r.Age == nil
}

// Validate reports whether exactly one source is named.
func (r Ref) Validate() error {
	n := 0
	for _, set := range []bool{r.File != "", r.Env != "", len(r.Exec) > 0, r.Vault != nil, r.AWS != nil, r.Age != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return errors.New("secret reference: set exactly one of file, env, exec, vault, aws and age")
	}
	return errors.Join(r.Vault.validate(), r.AWS.validate(), r.Age.validate())
}

// store names the store that holds the secret; empty if the reference reads itself.
func (r Ref) store() string {
	switch {
	case r.Vault != nil:
		return "vault/" + cmp.Or(r.Vault.Store, DefaultStore)
	case r.AWS != nil:
		return "aws/" + cmp.Or(r.AWS.Store, DefaultStore)
	case r.Age != nil:
		return "age/" + cmp.Or(r.Age.Store, DefaultStore)
	default:
		return ""
	}
}

// Where says where the secret is, for operators; never its value.
func (r Ref) Where() string {
	switch {
	case r.File != "":
		return "file " + r.File
	case r.Env != "":
		return "environment " + r.Env
	case len(r.Exec) > 0:
		return "helper " + r.Exec[0]
	case r.Vault != nil:
		return r.store() + " " + r.Vault.Path + " " + r.Vault.Field
	case r.AWS != nil:
		return r.store() + " " + cmp.Or(r.AWS.Secret, r.AWS.Ciphertext)
	case r.Age != nil:
		return r.store() + " " + r.Age.File
	default:
		return "nowhere"
	}
}

// key tells references apart.
func (r Ref) key() string {
	k := r.Where() + "\x00" + strings.Join(r.Exec, "\x00")
	if r.AWS != nil {
		k += "\x00" + r.AWS.Field + "\x00" + r.AWS.Stage
	}
	if r.Age != nil {
		k += "\x00" + r.Age.Field
	}
	return k
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
	case len(r.Exec) > 0:
		return readExec(ctx, r.Exec)
	default:
		return Value{}, fmt.Errorf("secret: %s is read through a keeper only", r.store())
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
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipe open does not keep us
	out := &capped{left: maxSize + 1}
	cmd.Stdout = out // stderr of the helper is not repeated: it may hold the secret
	if err := cmd.Run(); err != nil {
		clear(out.b)
		return Value{}, fmt.Errorf("secret: helper %s: %w", argv[0], err)
	}
	return checked(out.b, argv[0])
}

// capped keeps what is written to it up to a bound, and fails beyond.
type capped struct {
	b    []byte
	left int
}

// Write implements io.Writer.
func (c *capped) Write(p []byte) (int, error) {
	if len(p) > c.left {
		return 0, errors.New("output is too long")
	}
	c.left -= len(p)
	c.b = append(c.b, p...)
	return len(p), nil
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

// Equal reports whether both hold the same secret, in constant time for secrets of one length.
func (v Value) Equal(w Value) bool { return subtle.ConstantTimeCompare(v.b, w.b) == 1 }

// Clone returns a copy that its owner may overwrite.
func (v Value) Clone() Value { return Value{b: bytes.Clone(v.b)} }

// burn overwrites the secret in memory. Copies that were made of it, such as header values, stay until
// the garbage collector takes them.
func (v Value) burn() { clear(v.b) }

const redacted = "[redacted]"

// String hides the secret.
func (Value) String() string { return redacted }

// GoString hides the secret from %#v.
func (Value) GoString() string { return redacted }

// LogValue hides the secret from slog.
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the secret from JSON, YAML and XML encoders.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
