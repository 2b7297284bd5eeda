package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/servicetest"
	"github.com/warder-mcp/warder/registry"
)

func open(tb testing.TB, path string, options ...Option) *DB {
	tb.Helper()
	db, err := Open(tb.Context(), path, options...)
	if err != nil {
		tb.Fatalf("Open: %v", err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return db
}

func file(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "state", "warder ?#%.db") // a name that must be escaped
}

func define(server, name, text string, seen time.Time) registry.Definition {
	canonical := fmt.Appendf(nil, `{"description":%q,"name":%q}`, text, name)
	return registry.Definition{
		Key:       registry.Key{Server: server, Kind: registry.KindTool, Name: name, Digest: sha256.Sum256(canonical)},
		Canonical: canonical, FirstSeen: seen, LastSeen: seen,
	}
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123_000_000, time.UTC)

// onEach runs a test with SQLite and with PostgreSQL. Every call of open opens the same database again.
func onEach(t *testing.T, test func(t *testing.T, open func() *DB)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		path := file(t)
		test(t, func() *DB { return open(t, path) })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		dsn := servicetest.Postgres(t)
		test(t, func() *DB { return openPostgres(t, dsn) })
	})
}

func TestOpenCreatesPrivateFiles(t *testing.T) {
	t.Parallel()
	path := file(t)
	db := open(t, path)
	if _, err := db.Registry().Sight(t.Context(), []registry.Definition{define("s", "a", "", noon)}, 10); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %v, want 0600", filepath.Base(name), mode)
		}
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o700 {
		t.Errorf("folder has mode %v, want 0700", mode)
	}
}

func TestOpenIsDurableAndConcurrent(t *testing.T) {
	t.Parallel()
	db := open(t, file(t))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := db.write.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v, want %q", pragma, got, err, want)
		}
	}
	if _, err := db.read.ExecContext(t.Context(), "DELETE FROM definitions"); err == nil {
		t.Error("a reading connection can write")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    error
	}{
		{"a file that others may read", func(t *testing.T, path string) {
			t.Helper()
			write(t, path, nil, 0o644)
		}, ErrPermissions},
		{"a folder that others may write", func(t *testing.T, path string) {
			t.Helper()
			if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
		}, ErrPermissions},
		{"a damaged file", func(t *testing.T, path string) {
			t.Helper()
			write(t, path, []byte("SQLite format 3\x00 and then something else entirely, long enough to be read as a header of one hundred bytes"), 0o600)
		}, ErrCorrupt},
		{"a damaged page", damagePage, ErrCorrupt},
		{"a newer version", func(t *testing.T, path string) {
			t.Helper()
			db, err := Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.write.ExecContext(t.Context(), "PRAGMA user_version = 99"); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}, ErrNewer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "warder.db")
			tt.prepare(t, path)
			db, err := Open(t.Context(), path)
			if !errors.Is(err, tt.want) {
				t.Errorf("Open = %v, want %v", err, tt.want)
			}
			if db != nil {
				t.Errorf("Open returned a database: %v", db.Close())
			}
		})
	}
}

func TestOpenRefusesWhatIsNotAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "target"), nil, 0o600)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, dir} {
		if db, err := Open(t.Context(), path); err == nil {
			t.Errorf("Open(%s) succeeded: %v", path, db.Close())
		}
	}
}

func write(t *testing.T, path string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// damagePage writes a good database and then rubbish over the page of an index.
func damagePage(t *testing.T, path string) {
	t.Helper()
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var many []registry.Definition
	for i := range 200 {
		many = append(many, define("s", fmt.Sprintf("tool-%d", i), "text", noon))
	}
	if _, err := db.Registry().Sight(t.Context(), many, 1000); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 5 * 4096; i < 6*4096; i++ {
		content[i] ^= 0x5a
	}
	write(t, path, content, 0o600)
}

func TestRegistryRoundTrip(t *testing.T) {
	t.Parallel()
	onEach(t, checkRegistryRoundTrip)
}

func checkRegistryRoundTrip(t *testing.T, open func() *DB) {
	t.Helper()
	r := open().Registry()
	a, b := define("notes", "search", "one", noon), define("notes", "search", "two", noon.Add(time.Hour))
	other := define("other", "search", "one", noon)
	unknown, err := r.Sight(t.Context(), []registry.Definition{a, b, other}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]registry.Key{a.Key, b.Key, other.Key}, unknown); diff != "" {
		t.Errorf("Sight mismatch (-want +got):\n%s", diff)
	}
	again := a
	again.FirstSeen, again.LastSeen = noon.Add(2*time.Hour), noon.Add(2*time.Hour)
	if unknown, err = r.Sight(t.Context(), []registry.Definition{again}, 10); err != nil || unknown != nil {
		t.Errorf("second Sight = %v, %v, want nothing new", unknown, err)
	}
	approval := registry.Approval{
		Key: a.Key, State: warder.Approved, Effect: warder.EffectRead, Labels: []string{"internal", "pii"},
		By: "ada", At: noon, Note: "looks fine",
	}
	if err := r.Decide(t.Context(), approval, true); err != nil {
		t.Fatal(err)
	}
	a.LastSeen = again.LastSeen
	approval.Canonical = a.Canonical

	r = open().Registry() // another process
	definitions, err := r.Definitions(t.Context(), "notes")
	if diff := cmp.Diff([]registry.Definition{a, b}, definitions); err != nil || diff != "" {
		t.Errorf("Definitions: %v, mismatch (-want +got):\n%s", err, diff)
	}
	if all, err := r.Definitions(t.Context(), ""); err != nil || len(all) != 3 {
		t.Errorf("Definitions of all = %d, %v, want 3", len(all), err)
	}
	approvals, generation, err := r.Approvals(t.Context())
	if diff := cmp.Diff([]registry.Approval{approval}, approvals); err != nil || diff != "" || generation != 2 {
		t.Errorf("Approvals: generation %d, %v, mismatch (-want +got):\n%s", generation, err, diff)
	}
	if _, err := r.Definition(t.Context(), registry.Key{Server: "notes"}); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("Definition of nothing = %v, want ErrUnknown", err)
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	onEach(t, checkDecide)
}

func checkDecide(t *testing.T, open func() *DB) {
	t.Helper()
	r := open().Registry()
	a, b := define("s", "t", "one", noon), define("s", "t", "two", noon)
	other := define("s", "u", "one", noon)
	if _, err := r.Sight(t.Context(), []registry.Definition{a, b, other}, 10); err != nil {
		t.Fatal(err)
	}
	approve := func(k registry.Key, supersede bool) {
		t.Helper()
		if err := r.Decide(t.Context(), registry.Approval{Key: k, State: warder.Approved, By: "ada", At: noon}, supersede); err != nil {
			t.Fatal(err)
		}
	}
	approve(a.Key, true)
	approve(other.Key, true)
	approve(b.Key, false)
	if diff := cmp.Diff(map[registry.Key]warder.State{a.Key: warder.Approved, b.Key: warder.Approved, other.Key: warder.Approved}, states(t, r)); diff != "" {
		t.Errorf("kept side by side (-want +got):\n%s", diff)
	}
	approve(b.Key, true)
	if diff := cmp.Diff(map[registry.Key]warder.State{a.Key: warder.Revoked, b.Key: warder.Approved, other.Key: warder.Approved}, states(t, r)); diff != "" {
		t.Errorf("superseded (-want +got):\n%s", diff)
	}
	before, err := r.Generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stranger := define("s", "t", "never seen", noon)
	if err := r.Decide(t.Context(), registry.Approval{Key: stranger.Key, State: warder.Approved, By: "ada", At: noon}, true); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("Decide about a stranger = %v, want ErrUnknown", err)
	}
	if err := r.Decide(t.Context(), registry.Approval{Key: b.Key, State: warder.Quarantined, By: "ada", At: noon}, true); err == nil {
		t.Error("Decide stored a state that is no decision")
	}
	if after, err := r.Generation(t.Context()); err != nil || after != before {
		t.Errorf("generation went from %d to %d (%v) without a change", before, after, err)
	}
	if diff := cmp.Diff(map[registry.Key]warder.State{a.Key: warder.Revoked, b.Key: warder.Approved, other.Key: warder.Approved}, states(t, r)); diff != "" {
		t.Errorf("a failed decision changed something (-want +got):\n%s", diff)
	}
}

func states(t *testing.T, r *Registry) map[registry.Key]warder.State {
	t.Helper()
	list, _, err := r.Approvals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[registry.Key]warder.State{}
	for _, a := range list {
		out[a.Key] = a.State
	}
	return out
}

func TestPin(t *testing.T) {
	t.Parallel()
	onEach(t, checkPin)
}

func checkPin(t *testing.T, open func() *DB) {
	t.Helper()
	r := open().Registry()
	a, changed, b := define("s", "a", "one", noon), define("s", "a", "two", noon), define("s", "b", "one", noon)
	pinned, err := r.Pin(t.Context(), []registry.Definition{a, changed, b}, "first_use", noon)
	if diff := cmp.Diff([]registry.Key{a.Key, b.Key}, pinned); err != nil || diff != "" {
		t.Errorf("Pin: %v, mismatch (-want +got):\n%s", err, diff)
	}
	if err := r.Decide(t.Context(), registry.Approval{Key: b.Key, State: warder.Revoked, By: "ada", At: noon}, false); err != nil {
		t.Fatal(err)
	}
	pinned, err = r.Pin(t.Context(), []registry.Definition{changed, b, define("s", "b", "two", noon)}, "first_use", noon)
	if err != nil || pinned != nil {
		t.Errorf("Pin after decisions = %v, %v, want nothing", pinned, err)
	}
}

func TestSightForgetsTheUndecided(t *testing.T) {
	t.Parallel()
	onEach(t, checkSightForgetsTheUndecided)
}

func checkSightForgetsTheUndecided(t *testing.T, open func() *DB) {
	t.Helper()
	r := open().Registry()
	approved := define("s", "kept", "one", noon.Add(-time.Hour))
	elsewhere := define("other", "kept", "one", noon.Add(-time.Hour))
	if _, err := r.Sight(t.Context(), []registry.Definition{approved, elsewhere}, 5); err != nil {
		t.Fatal(err)
	}
	if err := r.Decide(t.Context(), registry.Approval{Key: approved.Key, State: warder.Approved, By: "ada", At: noon}, true); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if _, err := r.Sight(t.Context(), []registry.Definition{define("s", fmt.Sprintf("n%02d", i), "x", noon.Add(time.Duration(i)*time.Second))}, 5); err != nil {
			t.Fatal(err)
		}
	}
	list, err := r.Definitions(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range list {
		names = append(names, d.Server+"/"+d.Name)
	}
	if diff := cmp.Diff([]string{"other/kept", "s/kept", "s/n35", "s/n36", "s/n37", "s/n38", "s/n39"}, names); diff != "" {
		t.Errorf("definitions kept (-want +got):\n%s", diff)
	}
}

func TestStoreGone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		kill func(t *testing.T, path string)
	}{
		{"removed", func(t *testing.T, path string) {
			t.Helper()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}},
		{"replaced", func(t *testing.T, path string) {
			t.Helper()
			if err := os.Rename(path, path+".old"); err != nil {
				t.Fatal(err)
			}
			write(t, path, nil, 0o600)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := file(t)
			r := open(t, path).Registry()
			d := define("s", "a", "one", noon)
			if _, err := r.Sight(t.Context(), []registry.Definition{d}, 5); err != nil {
				t.Fatal(err)
			}
			tt.kill(t, path)
			if _, err := r.Generation(t.Context()); !errors.Is(err, ErrGone) {
				t.Errorf("Generation = %v, want ErrGone", err)
			}
			if _, _, err := r.Approvals(t.Context()); !errors.Is(err, ErrGone) {
				t.Errorf("Approvals = %v, want ErrGone", err)
			}
			if err := r.Decide(t.Context(), registry.Approval{Key: d.Key, State: warder.Approved, By: "ada", At: noon}, true); !errors.Is(err, ErrGone) {
				t.Errorf("Decide = %v, want ErrGone", err)
			}
		})
	}
}

// TestStoreFull proves that a decision that does not fit on the disk is an error and not a decision.
func TestStoreFull(t *testing.T) {
	t.Parallel()
	db := open(t, file(t))
	r := db.Registry()
	d := define("s", "a", "one", noon)
	if _, err := r.Sight(t.Context(), []registry.Definition{d}, 5000); err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := db.write.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := db.write.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
		t.Fatal(err)
	}
	var failed error
	for i := 0; i < 1000 && failed == nil; i++ {
		_, failed = r.Sight(t.Context(), []registry.Definition{define("s", fmt.Sprintf("n%d", i), "some text to fill a page", noon)}, 5000)
	}
	if failed == nil {
		t.Fatal("the disk never was full")
	}
	note := make([]byte, 20_000)
	for i := range note {
		note[i] = 'x'
	}
	err := r.Decide(t.Context(), registry.Approval{Key: d.Key, State: warder.Approved, By: "ada", At: noon, Note: string(note)}, true)
	if err == nil {
		t.Error("Decide on a full disk succeeded")
	}
	if got := states(t, r); len(got) != 0 {
		t.Errorf("approvals after a failed decision: %v", got)
	}
}

func TestMigrationsApplyOnce(t *testing.T) {
	t.Parallel()
	path := file(t)
	first, second := open(t, path), open(t, path)
	for _, db := range []*DB{first, second} {
		var version int
		if err := db.read.QueryRowContext(t.Context(), "PRAGMA user_version").Scan(&version); err != nil || version < 1 {
			t.Errorf("user_version = %d, %v", version, err)
		}
	}
}

func TestUpdateRollsBack(t *testing.T) {
	t.Parallel()
	db := open(t, file(t))
	boom := errors.New("boom")
	err := db.update(t.Context(), func(tx *tx) error {
		if _, err := tx.ExecContext(t.Context(), "UPDATE generation SET value = 99"); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("update = %v, want boom", err)
	}
	if n, err := db.Registry().Generation(t.Context()); err != nil || n != 1 {
		t.Errorf("Generation = %d, %v, want 1", n, err)
	}
}

func BenchmarkGeneration(b *testing.B) {
	r := open(b, file(b)).Registry()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Generation(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	r := open(b, file(b)).Registry()
	d := define("s", "a", "one", noon)
	if _, err := r.Sight(b.Context(), []registry.Definition{d}, 5); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Decide(b.Context(), registry.Approval{Key: d.Key, State: warder.Approved, By: "ada", At: noon}, true); err != nil {
			b.Fatal(err)
		}
	}
}
