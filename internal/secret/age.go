package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"filippo.io/age"
)

// Age decrypts files that were encrypted with age (https://age-encryption.org/v1) to one of its
// identities.
type Age struct {
	Identity Ref `yaml:"identity"` // identities, one AGE-SECRET-KEY a line, as age-keygen writes them
}

// An AgeRef is one encrypted file.
type AgeRef struct {
	Store string `yaml:"store,omitempty"` // name in secrets.age; default "default"
	File  string `yaml:"file"`            // age file, binary
	Field string `yaml:"field,omitempty"` // member, where the file holds a JSON object; empty: all of it
}

func (r *AgeRef) validate() error {
	if r != nil && r.File == "" {
		return errors.New("secret reference: age: file must be set")
	}
	return nil
}

type ageStore struct{ cfg Age }

func newAge(cfg Age) (*ageStore, error) {
	if err := cfg.Identity.Validate(); err != nil {
		return nil, err
	}
	if cfg.Identity.store() != "" {
		return nil, errors.New("identity: want file, env or exec")
	}
	return &ageStore{cfg: cfg}, nil
}

// Fetch implements Store. The identity is in memory only while it is used.
func (s *ageStore) Fetch(ctx context.Context, ref Ref) (Value, time.Duration, error) {
	key, err := s.cfg.Identity.Read(ctx)
	if err != nil {
		return Value{}, 0, err
	}
	defer key.burn()
	identities, err := age.ParseIdentities(bytes.NewReader(key.Bytes()))
	if err != nil {
		return Value{}, 0, errors.New("the identity is not one of age") // the cause may quote it
	}
	f, err := os.Open(ref.Age.File)
	if err != nil {
		return Value{}, 0, err
	}
	defer f.Close()
	plain, err := age.Decrypt(io.LimitReader(f, 1<<20), identities...)
	if err != nil {
		return Value{}, 0, fmt.Errorf("decrypt %s: %w", ref.Age.File, err)
	}
	text, err := io.ReadAll(io.LimitReader(plain, maxSize+1))
	if err != nil {
		return Value{}, 0, fmt.Errorf("decrypt %s: %w", ref.Age.File, err)
	}
	v, err := field(text, ref.Age.Field)
	return v, 0, err
}
