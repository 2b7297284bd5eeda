package tlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
)

// Errors of a tree that is not as it was signed.
var (
	ErrSignature    = errors.New("checkpoint is not signed by this log")
	ErrRoot         = errors.New("entries do not give the root of the signed checkpoint")
	ErrInconsistent = errors.New("tree is not a continuation of the earlier checkpoint")
)

// A Checkpoint is a signed statement about a tree.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   []byte
	Raw    []byte // signed note
}

// ParseCheckpoint opens a signed checkpoint with the log's verifier key.
func ParseCheckpoint(raw []byte, verifierKey string) (Checkpoint, error) {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verifier key: %w", err)
	}
	cp, _, _, err := log.ParseCheckpoint(raw, v.Name(), v)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return Checkpoint{Origin: cp.Origin, Size: cp.Size, Root: cp.Hash, Raw: raw}, nil
}

// checkpointSize reads the size out of a checkpoint (https://c2sp.org/tlog-checkpoint, line 2)
// without judging its signature.
func checkpointSize(raw []byte) (uint64, error) {
	lines := bytes.SplitN(raw, []byte("\n"), 3)
	if len(lines) < 3 {
		return 0, errors.New("checkpoint has no size")
	}
	return strconv.ParseUint(string(lines[1]), 10, 64)
}

// Read verifies the tree in dir offline: it reads the newest checkpoint, checks its signature,
// rebuilds the root from all entries, and checks that each earlier checkpoint, which the caller kept
// elsewhere, was of the same tree. It returns the blocks as far as they could be read, also with an
// error.
func Read(ctx context.Context, dir, verifierKey string, earlier ...[]byte) (Checkpoint, []Block, error) {
	files := client.FileFetcher{Root: dir}
	raw, err := files.ReadCheckpoint(ctx)
	if err != nil {
		return Checkpoint{}, nil, fmt.Errorf("read checkpoint: %w", err)
	}
	cp, signErr := ParseCheckpoint(raw, verifierKey)
	if signErr != nil {
		if cp.Size, err = checkpointSize(raw); err != nil {
			return cp, nil, errors.Join(signErr, err)
		}
	}
	marks, err := milestones(earlier, verifierKey)
	if err != nil {
		return cp, nil, errors.Join(signErr, err)
	}
	blocks, rootErr := rebuild(ctx, files, cp, marks)
	return cp, blocks, errors.Join(signErr, rootErr)
}

func milestones(earlier [][]byte, verifierKey string) ([]Checkpoint, error) {
	marks := make([]Checkpoint, 0, len(earlier))
	for _, raw := range earlier {
		cp, err := ParseCheckpoint(raw, verifierKey)
		if err != nil {
			return nil, fmt.Errorf("earlier checkpoint: %w", err)
		}
		marks = append(marks, cp)
	}
	return marks, nil
}

// rebuild reads every entry and compares the roots at the milestones and at the end.
func rebuild(ctx context.Context, files client.FileFetcher, cp Checkpoint, marks []Checkpoint) ([]Block, error) {
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	var blocks []Block
	for _, m := range marks {
		if m.Size > cp.Size {
			return nil, fmt.Errorf("%w: it had %d entries, the tree has %d", ErrInconsistent, m.Size, cp.Size)
		}
	}
	for i := uint64(0); i < cp.Size; i += 256 {
		bundle, err := client.GetEntryBundle(ctx, files.ReadEntryBundle, i/256, cp.Size)
		if err != nil {
			return blocks, fmt.Errorf("entries from %d: %w", i, err)
		}
		for _, e := range bundle.Entries[:min(uint64(len(bundle.Entries)), cp.Size-i)] {
			block, err := parseBlock(e)
			if err != nil {
				return blocks, fmt.Errorf("entry %d: %w", len(blocks), err)
			}
			blocks = append(blocks, block)
			if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(e), nil); err != nil {
				return blocks, fmt.Errorf("entry %d: %w", len(blocks)-1, err)
			}
			if err := reached(tree, marks); err != nil {
				return blocks, err
			}
		}
	}
	root, err := rootOf(tree)
	if err != nil {
		return blocks, err
	}
	if tree.End() != cp.Size || (cp.Root != nil && !bytes.Equal(root, cp.Root)) {
		return blocks, fmt.Errorf("%w: %d entries of %d", ErrRoot, tree.End(), cp.Size)
	}
	return blocks, nil
}

func reached(tree *compact.Range, marks []Checkpoint) error {
	for _, m := range marks {
		if m.Size != tree.End() {
			continue
		}
		root, err := rootOf(tree)
		if err != nil {
			return err
		}
		if !bytes.Equal(root, m.Root) {
			return fmt.Errorf("%w: its %d entries had another root", ErrInconsistent, m.Size)
		}
	}
	return nil
}

func rootOf(tree *compact.Range) ([]byte, error) {
	if tree.End() == 0 {
		return rfc6962.DefaultHasher.EmptyRoot(), nil
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return nil, fmt.Errorf("root of %d entries: %w", tree.End(), err)
	}
	return root, nil
}
