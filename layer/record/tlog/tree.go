// Package tlog keeps the Merkle tree of the audit trail: a C2SP tlog-tiles log on local files whose
// entries are [Block]s of records of the write-ahead file, in order and without gaps, and whose
// checkpoints are signed.
//
// The last block says which record comes next. That is all the state integration needs: after a
// crash it goes on there, and no record is lost or doubled. One block stands for many records because
// a tree update costs about a dozen synchronous file writes, whatever it adds.
// The package is the only one that knows Tessera.
package tlog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// stateDir is where the storage driver keeps its locks and the state of the tree.
const stateDir = ".state"

// GenerateKey makes an Ed25519 key pair in the signed-note form (https://c2sp.org/signed-note):
// the signer key is a secret, the verifier key is for everybody.
func GenerateKey(origin string) (signer, verifier string, err error) {
	return note.GenerateKey(rand.Reader, origin)
}

// A Tree adds blocks and publishes checkpoints. Add must not be called concurrently with itself.
type Tree struct {
	dir      string
	add      tessera.AddFn
	reader   tessera.LogReader
	shutdown func(context.Context) error
	cancel   context.CancelFunc
	size     uint64 // blocks
	next     uint64 // records
	chain    [32]byte
}

// Open opens the tree in dir, which is created if it is missing. It publishes a checkpoint at most
// once per interval (at least 100 ms). Messages of the driver go to logger.
func Open(ctx context.Context, dir, signerKey string, interval time.Duration, logger *slog.Logger) (*Tree, error) {
	signer, err := note.NewSigner(signerKey)
	if err != nil {
		return nil, fmt.Errorf("checkpoint key: %w", err)
	}
	redirect(logger)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open tree: %w", err)
	}
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(interval).
		WithBatching(1, time.Millisecond)
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, opts)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open tree: %w", err)
	}
	t := &Tree{dir: dir, add: appender.Add, reader: reader, shutdown: shutdown, cancel: cancel}
	if err := t.refresh(ctx); err != nil {
		cancel()
		return nil, err
	}
	return t, nil
}

// refresh reads how far the tree got.
func (t *Tree) refresh(ctx context.Context) error {
	size, err := t.reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("size of tree: %w", err)
	}
	t.size = size
	if size == 0 {
		return nil
	}
	last, err := t.block(ctx, size-1)
	if err != nil {
		return err
	}
	t.next, t.chain = last.Next(), last.Chain
	return nil
}

// Next is the number of records in the tree: the sequence number of the next. Chain is the chain
// over them.
func (t *Tree) Next() (next uint64, chain [32]byte) { return t.next, t.chain }

// Add appends a block, which must begin with record [Tree.Next], and returns when it is in the tree.
// After an error Next tells how far the tree got; the caller goes on from there.
func (t *Tree) Add(ctx context.Context, b Block) error {
	if b.First != t.next || len(b.Prints) == 0 || len(b.Prints) > MaxRecords {
		return fmt.Errorf("block of %d records begins at %d, want %d", len(b.Prints), b.First, t.next)
	}
	if err := t.present(); err != nil {
		return err
	}
	idx, err := t.add(ctx, tessera.NewEntry(b.encode()))()
	if err == nil && idx.Index != t.size {
		err = fmt.Errorf("block %d was given number %d", t.size, idx.Index)
	}
	return errors.Join(err, t.refresh(ctx))
}

// present checks that the driver's state folder is there and that files can be opened in it. The
// driver ends the process when it cannot open its lock file, so this is asked before each batch.
func (t *Tree) present() error {
	f, err := os.OpenFile(filepath.Join(t.dir, stateDir, "treeState.lock"), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("tree is not there: %w", err)
	}
	return f.Close()
}

// block reads block i.
func (t *Tree) block(ctx context.Context, i uint64) (Block, error) {
	b, err := client.GetEntryBundle(ctx, t.reader.ReadEntryBundle, i/256, t.size)
	if err != nil {
		return Block{}, fmt.Errorf("block %d: %w", i, err)
	}
	if at := int(i % 256); at < len(b.Entries) {
		return parseBlock(b.Entries[at])
	}
	return Block{}, fmt.Errorf("block %d: not in its bundle", i)
}

// Size is the number of blocks in the tree.
func (t *Tree) Size() uint64 { return t.size }

// Published is the number of blocks that the newest checkpoint covers. Its signature is not checked.
func (t *Tree) Published(ctx context.Context) (uint64, error) {
	raw, err := t.reader.ReadCheckpoint(ctx)
	if err != nil {
		return 0, fmt.Errorf("read checkpoint: %w", err)
	}
	return checkpointSize(raw)
}

// Close publishes a checkpoint over everything added and ends the driver.
func (t *Tree) Close(ctx context.Context) error {
	defer t.cancel()
	if err := t.present(); err != nil {
		return err
	}
	if err := t.shutdown(ctx); err != nil {
		return fmt.Errorf("close tree: %w", err)
	}
	return nil
}
