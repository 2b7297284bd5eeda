package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
)

// A vault keeps captured requests, each sealed in a file of its own (AES-256-GCM, the exchange id is
// bound in), so that one can be erased without touching the trail. It is bounded: the oldest go first.
type vault struct {
	root  *os.Root
	aead  cipher.AEAD
	total int64
	each  int
	log   *slog.Logger

	mu    sync.Mutex
	names []string // oldest first; ids sort by time
	sizes map[string]int64
	held  int64
}

// openVault opens the folder of bodies under root, making key and folder if they are missing.
func openVault(root *os.Root, cfg Capture, logger *slog.Logger) (*vault, error) {
	aead, err := captureKey(root, true)
	if err != nil {
		return nil, err
	}
	if err := root.MkdirAll(captureDir, 0o700); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	dir, err := root.OpenRoot(captureDir)
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	v := &vault{root: dir, aead: aead, total: int64(cfg.Total), each: int(cfg.Each), log: logger, sizes: map[string]int64{}}
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("capture: %w", err), dir.Close())
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		v.names = append(v.names, e.Name())
		v.sizes[e.Name()] = info.Size()
		v.held += info.Size()
	}
	slices.Sort(v.names)
	return v, nil
}

func captureKey(root *os.Root, create bool) (cipher.AEAD, error) {
	read := func() ([]byte, error) { return root.ReadFile(captureFile) }
	if create {
		read = func() ([]byte, error) {
			return ensure(root, captureFile, 0o600, func() ([]byte, error) {
				key := make([]byte, 32)
				_, _ = rand.Read(key) // never fails since Go 1.24
				return key, nil
			})
		}
	}
	key, err := read()
	if err != nil {
		return nil, fmt.Errorf("capture key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("capture key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// put keeps a body. One that is too large is not kept, which is logged; the trail says that the call
// happened in any case.
func (v *vault) put(exchange string, body []byte) error {
	if len(body) > v.each || !safeName(exchange) {
		v.log.Debug("body not captured", slog.String("exchange", exchange), slog.Int("bytes", len(body)))
		return nil
	}
	sealed := v.aead.Seal(nil, nil, body, []byte(exchange))
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.sizes[exchange]; ok {
		return nil
	}
	for len(v.names) > 0 && v.held+int64(len(sealed)) > v.total {
		if err := v.eraseLocked(v.names[0]); err != nil {
			return err
		}
	}
	if err := v.root.WriteFile(exchange, sealed, 0o600); err != nil {
		return errors.Join(fmt.Errorf("capture: %w", err), v.root.Remove(exchange))
	}
	v.names = append(v.names, exchange)
	v.sizes[exchange] = int64(len(sealed))
	v.held += int64(len(sealed))
	return nil
}

func (v *vault) erase(exchange string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.eraseLocked(exchange)
}

func (v *vault) eraseLocked(exchange string) error {
	if err := v.root.Remove(exchange); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("erase captured body: %w", err)
	}
	v.held -= v.sizes[exchange]
	delete(v.sizes, exchange)
	if i := slices.Index(v.names, exchange); i >= 0 {
		v.names = slices.Delete(v.names, i, i+1)
	}
	return nil
}

// safeName reports whether an exchange id can be a file name.
func safeName(id string) bool {
	return id != "" && len(id) <= 64 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// Erase removes the captured body of an exchange, if there is one. The trail stays as it is.
func (l *Log) Erase(exchange string) error {
	if l.vault == nil {
		return nil
	}
	return l.vault.erase(exchange)
}
