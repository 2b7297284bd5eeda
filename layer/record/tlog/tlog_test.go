package tlog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// block makes a block of n records from a number on.
func block(from, n int) Block {
	b := Block{First: uint64(from), Chain: sha256.Sum256(fmt.Append(nil, from, n)), Prints: make([]Print, n)}
	for i := range b.Prints {
		copy(b.Prints[i][:], fmt.Sprintf("%08d", from+i))
	}
	return b
}

func TestTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	skey, vkey, err := GenerateKey("warder.test/audit")
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	var early []byte
	for round := range 3 {
		tree, err := Open(t.Context(), dir, skey, 100*time.Millisecond, logger)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := tree.Next(); got != uint64(round*3000) {
			t.Fatalf("next %d, want %d", got, round*3000)
		}
		for i := range 300 {
			for _, b := range []Block{block(round*3000+i*10, 4), block(round*3000+i*10+4, 6)} {
				if err := tree.Add(t.Context(), b); err != nil {
					t.Fatal(err)
				}
			}
			if i == 20 {
				break
			}
		}
		if err := tree.Add(t.Context(), block(round*3000+210, 2790)); err != nil {
			t.Fatal(err)
		}
		if err := tree.Add(t.Context(), block(0, 1)); err == nil {
			t.Fatal("a block out of place was added")
		}
		if err := tree.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			early, _ = os.ReadFile(filepath.Join(dir, "checkpoint"))
		}
	}
	cp, all, err := Read(t.Context(), dir, vkey, early)
	if err != nil || cp.Size != 3*43 || len(all) != 3*43 {
		t.Fatalf("Read = %d blocks of %d, %v", len(all), cp.Size, err)
	}
	if d := cmp.Diff(block(8790-2580, 2790), all[len(all)-1]); d != "" {
		t.Errorf("last block (-want +got):\n%s", d)
	}

	_, other, _ := GenerateKey("warder.test/audit")
	if _, _, err := Read(t.Context(), dir, other); !errors.Is(err, ErrSignature) {
		t.Errorf("other key: %v, want ErrSignature", err)
	}
	bundle := filepath.Join(dir, "tile", "entries", "000.p", fmt.Sprint(3*43))
	b, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	b[40] ^= 1
	if err := os.WriteFile(bundle, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(t.Context(), dir, vkey); !errors.Is(err, ErrRoot) {
		t.Errorf("edited leaf: %v, want ErrRoot", err)
	}
	if _, _, err := Read(t.Context(), dir, vkey, early); !errors.Is(err, ErrInconsistent) {
		t.Errorf("edited leaf below an earlier checkpoint: %v, want ErrInconsistent", err)
	}
}

func TestTreeTakenAway(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tree")
	skey, _, err := GenerateKey("warder.test/audit")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Open(t.Context(), dir, skey, 100*time.Millisecond, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Add(t.Context(), block(0, 3)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Add(t.Context(), block(3, 3)); err == nil {
		t.Fatal("a block was added to a tree that is not there")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := tree.Add(t.Context(), block(3, 3)); err != nil {
		t.Fatal(err)
	}
	if next, _ := tree.Next(); next != 6 {
		t.Fatalf("tree is back: next %d, want 6", next)
	}
	if err := tree.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkAdd(b *testing.B) {
	skey, _, err := GenerateKey("warder.test/audit")
	if err != nil {
		b.Fatal(err)
	}
	tree, err := Open(b.Context(), b.TempDir(), skey, time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := tree.Add(b.Context(), block(i*500, 500)); err != nil {
			b.Fatal(err)
		}
	}
}
