package tlog

import (
	"context"
	"fmt"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
)

// A Proof shows that one block is in the tree that a checkpoint signs. It needs nothing but the public
// key to be checked.
type Proof struct {
	Checkpoint []byte   // signed note
	Index      uint64   // of the block
	Entry      []byte   // the block as it is in the tree
	Path       [][]byte // hashes up to the root (RFC 9162 section 2.1.3)
}

// Prove finds the block that holds record seq in the tree in dir, under the newest checkpoint. It is
// empty while no checkpoint covers the record.
func Prove(ctx context.Context, dir string, seq uint64) (p Proof, found Block, err error) {
	files := client.FileFetcher{Root: dir}
	if p.Checkpoint, err = files.ReadCheckpoint(ctx); err != nil {
		return p, found, fmt.Errorf("read checkpoint: %w", err)
	}
	size, err := checkpointSize(p.Checkpoint)
	if err != nil {
		return p, found, err
	}
	for i := uint64(0); i < size && p.Entry == nil; i += 256 {
		bundle, err := client.GetEntryBundle(ctx, files.ReadEntryBundle, i/256, size)
		if err != nil {
			return p, found, fmt.Errorf("entries from %d: %w", i, err)
		}
		for j, e := range bundle.Entries {
			b, err := parseBlock(e)
			if err != nil {
				return p, found, fmt.Errorf("entry %d: %w", i+uint64(j), err)
			}
			if at := i + uint64(j); at < size && b.First <= seq && seq < b.Next() {
				p.Index, p.Entry, found = at, e, b
				break
			}
		}
	}
	if p.Entry == nil {
		return p, found, nil
	}
	builder, err := client.NewProofBuilder(ctx, size, files.ReadTile)
	if err != nil {
		return p, found, fmt.Errorf("proof: %w", err)
	}
	if p.Path, err = builder.InclusionProof(ctx, p.Index); err != nil {
		return p, found, fmt.Errorf("proof: %w", err)
	}
	return p, found, nil
}

// Verify checks the proof with the log's verifier key and returns what it shows.
func (p Proof) Verify(verifierKey string) (Checkpoint, Block, error) {
	cp, err := ParseCheckpoint(p.Checkpoint, verifierKey)
	if err != nil {
		return cp, Block{}, err
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(p.Entry)
	if p.Index >= cp.Size {
		return cp, Block{}, fmt.Errorf("%w: block %d of %d", ErrRoot, p.Index, cp.Size)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, p.Index, cp.Size, leaf, p.Path, cp.Root); err != nil {
		return cp, Block{}, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	b, err := parseBlock(p.Entry)
	return cp, b, err
}

// A Notary signs statements with the key of the checkpoints. It is safe for concurrent use.
type Notary struct{ signer note.Signer }

// NewNotary reads the log's signer key.
func NewNotary(signerKey string) (*Notary, error) {
	signer, err := note.NewSigner(signerKey)
	if err != nil {
		return nil, fmt.Errorf("checkpoint key: %w", err)
	}
	return &Notary{signer: signer}, nil
}

// Origin is the name of the key.
func (n *Notary) Origin() string { return n.signer.Name() }

// Sign returns a signed note (https://c2sp.org/signed-note) over a title and one line of text. A title is
// never the origin of a log, so that no statement is taken for a checkpoint.
func (n *Notary) Sign(title, line string) ([]byte, error) {
	if title == n.signer.Name() || strings.Contains(title+line, "\n") {
		return nil, fmt.Errorf("sign: %q cannot be the title of a statement", title)
	}
	return note.Sign(&note.Note{Text: title + "\n" + line + "\n"}, n.signer)
}

// OpenNote checks a signed note of [Notary.Sign] and returns its line.
func OpenNote(signed []byte, title, verifierKey string) (line string, err error) {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return "", fmt.Errorf("verifier key: %w", err)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSignature, err)
	}
	line, ok := strings.CutPrefix(n.Text, title+"\n")
	if !ok || strings.Count(line, "\n") != 1 {
		return "", fmt.Errorf("%w: it is another statement", ErrSignature)
	}
	return strings.TrimSuffix(line, "\n"), nil
}
