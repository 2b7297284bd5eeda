package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// DefaultStore is the name of the store that a reference without one means.
const DefaultStore = "default"

// Stores are the places that secrets are fetched from, by name.
type Stores struct {
	Cache time.Duration    `yaml:"cache,omitempty"` // how long a secret that comes without a lease is used before it is fetched again, at most 24h; default 5m
	Vault map[string]Vault `yaml:"vault,omitempty"` // HashiCorp Vault or OpenBao
	AWS   map[string]AWS   `yaml:"aws,omitempty"`   // AWS Secrets Manager and KMS
	Age   map[string]Age   `yaml:"age,omitempty"`   // files encrypted with age: a key management without a server
}

// Deps is what stores need from outside.
type Deps struct {
	// HTTP returns the client that talks to a store at an address that the configuration names. It is one
	// of package safedial; required when there is a store with an address.
	HTTP func(address string) (*http.Client, error)
	Now  func() time.Time // nil for time.Now
}

func (s Stores) open(deps Deps) (map[string]Store, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	out := map[string]Store{}
	var errs []error
	add := func(name string, store Store, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("secrets.%s: %w", name, err))
			return
		}
		out[name] = store
	}
	for name, cfg := range s.Vault {
		store, err := newVault(cfg, deps)
		add("vault/"+name, store, err)
	}
	for name, cfg := range s.AWS {
		store, err := newAWS(cfg, deps)
		add("aws/"+name, store, err)
	}
	for name, cfg := range s.Age {
		store, err := newAge(cfg)
		add("age/"+name, store, err)
	}
	return out, errors.Join(errs...)
}

// field picks one member of a JSON object of strings. Without a name the whole text is the secret.
func field(text []byte, name string) (Value, error) {
	if name == "" {
		return checked(text, "the store")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return Value{}, errors.New("the secret is not a JSON object")
	}
	raw, ok := members[name]
	if !ok {
		return Value{}, fmt.Errorf("the secret has no field %q", name)
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return Value{}, fmt.Errorf("field %q is not a string", name)
	}
	return checked([]byte(s), "the store")
}

var (
	_ Store = (*vault)(nil)
	_ Store = (*aws)(nil)
	_ Store = (*ageStore)(nil)
)

// refused is an answer of a store that is no secret. The body is not repeated.
func refused(ctx context.Context, status int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("the store answered status %d", status)
}
