package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/layer/record"
	"github.com/warder-mcp/warder/registry"
	"github.com/warder-mcp/warder/store"
)

func toolsCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "tools",
		Short: "See and decide which definitions may be used",
		Long: "A definition is a tool, a prompt or the instructions of a server. It may be used once exactly it,\n" +
			"byte for byte of its canonical form, was approved; a changed definition is another one.\n\n" +
			"SERVER/NAME names a definition, SERVER/NAME@DIGEST exactly one; the first digits are enough.",
		GroupID: "decide",
	})
	cmd.AddCommand(toolsListCommand(), toolsShowCommand(), toolsDiffCommand(), toolsApproveCommand(), toolsRevokeCommand())
	return cmd
}

// shortDigest is how many hexadecimal digits of a digest the tables show.
const shortDigest = 12

// An entry is a definition as the commands print it.
type entry struct {
	Reference string    `json:"reference"` // SERVER/NAME@DIGEST
	Server    string    `json:"server"`
	Kind      string    `json:"kind"`
	Name      string    `json:"name"`
	Digest    string    `json:"digest"`
	State     string    `json:"state"`
	Reason    string    `json:"reason,omitempty"`
	Effect    string    `json:"effect,omitempty"`
	Labels    []string  `json:"labels,omitempty"`
	DecidedBy string    `json:"decided_by,omitempty"`
	DecidedAt time.Time `json:"decided_at,omitzero"`
	Note      string    `json:"note,omitempty"`
	Latest    bool      `json:"latest"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
}

func describe(e *registry.Entry) entry {
	digest := hex.EncodeToString(e.Digest[:])
	out := entry{
		Reference: e.Server + "/" + e.Name + "@" + digest, Server: e.Server, Kind: e.Kind, Name: e.Name, Digest: digest,
		State: e.State.String(), Reason: string(e.Reason), Latest: e.Latest, FirstSeen: e.FirstSeen, LastSeen: e.LastSeen,
	}
	if e.Approval != nil {
		out.Labels, out.DecidedBy, out.DecidedAt, out.Note = e.Approval.Labels, e.Approval.By, e.Approval.At, e.Approval.Note
		if e.State == warder.Approved {
			out.Effect = e.Approval.Effect.String()
		}
	}
	return out
}

// short is the reference as tables show it.
func (e entry) short() string { return e.Server + "/" + e.Name + "@" + e.Digest[:shortDigest] }

// stateFlags adds the flags that say where definitions and decisions are kept.
func stateFlags(cmd *cobra.Command) {
	configFlag(cmd)
	cmd.Flags().String("data", "", "data folder, instead of that of the configuration")
	_ = cmd.MarkFlagDirname("data")
}

// located is where a command finds the state.
type located struct {
	data  string
	audit string
	cfg   *config.Config
}

func locate(cmd *cobra.Command) (located, error) {
	data, err := cmd.Flags().GetString("data")
	if err != nil {
		return located{}, err
	}
	cfg := config.Default()
	if data == "" {
		if cfg, err = config.Load(configPath(cmd)); err != nil {
			return located{}, unreadable(err)
		}
		data = cfg.Data
	}
	l := located{data: data, audit: cfg.Record.Dir, cfg: cfg}
	if l.audit == "" {
		l.audit = filepath.Join(data, "audit")
	}
	return l, nil
}

// openRegistry opens the definitions of a data folder. Decisions are recorded by record; nil: none
// will be made.
func openRegistry(ctx context.Context, data string, trail func(context.Context, warder.Event) error) (*registry.Registry, func() error, error) {
	path := filepath.Join(data, "warder.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fail(exitFailed, "start the gateway and let a client list the tools once: warder serve", fmt.Errorf("no definition was seen yet: %w", err))
	}
	db, err := store.Open(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	reg, err := registry.New(ctx, registry.Config{}, registry.Deps{Store: db.Registry(), Record: trail})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return reg, func() error { return errors.Join(reg.Close(), db.Close()) }, nil
}

// reading runs f on the definitions of the data folder, without the right to decide.
func reading(cmd *cobra.Command, f func(*registry.Registry) error) (err error) {
	at, err := locate(cmd)
	if err != nil {
		return err
	}
	reg, done, err := openRegistry(cmd.Context(), at.data, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	return explainRegistry(f(reg))
}

// deciding runs f with what decides: the running gateway, or, when none runs, a registry of our own
// that writes to the audit trail itself.
func deciding(cmd *cobra.Command, f func(reg *registry.Registry, by admin.Registry) error) (err error) {
	at, err := locate(cmd)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	gateway, err := admin.Dial(ctx, at.data)
	if err == nil {
		reg, done, err := openRegistry(ctx, at.data, nil)
		if err != nil {
			return err
		}
		return explainRegistry(errors.Join(f(reg, gateway), done()))
	}
	if !errors.Is(err, admin.ErrNotRunning) {
		return err
	}
	if _, err := os.Stat(filepath.Join(at.data, "warder.db")); err != nil {
		_, _, err := openRegistry(ctx, at.data, nil)
		return err
	}
	trail, err := record.OpenLog(ctx, at.audit, at.cfg.Record, slog.New(slog.DiscardHandler))
	if err != nil {
		return fail(exitFailed, "is a gateway running on this data folder that has no admin socket?", fmt.Errorf("audit trail: %w", err))
	}
	defer func() { err = errors.Join(err, trail.Close(context.WithoutCancel(ctx))) }()
	reg, done, err := openRegistry(ctx, at.data, trail.AppendWait)
	if err != nil {
		return err
	}
	return explainRegistry(errors.Join(f(reg, reg), done()))
}

// explainRegistry gives the errors of decisions their exit codes.
func explainRegistry(err error) error {
	switch {
	case errors.Is(err, registry.ErrTampered):
		return fail(exitVerify, "the database was changed by something else than Warder; restore a backup", err)
	case errors.Is(err, registry.ErrInvalid):
		return fail(exitRefused, "", err)
	case errors.Is(err, registry.ErrUnknown):
		return fail(exitFailed, "list them with: warder tools list", err)
	default:
		return err
	}
}

// reference is SERVER/NAME[@DIGEST] as typed.
type reference struct {
	registry.Subject
	digest string // first hexadecimal digits, or empty
}

var digestSuffix = regexp.MustCompile(`^(.+)@([0-9a-fA-F]{4,64})$`)

func parseReference(word, kind string) (reference, error) {
	server, name, ok := strings.Cut(word, "/")
	if !ok || server == "" || name == "" {
		return reference{}, fail(exitUsage, "write SERVER/NAME or SERVER/NAME@DIGEST", fmt.Errorf("%q names no definition", oneLine(word)))
	}
	r := reference{Subject: registry.Subject{Server: server, Kind: kind, Name: name}}
	if m := digestSuffix.FindStringSubmatch(name); m != nil {
		r.Name, r.digest = m[1], m[2]
	}
	return r, nil
}

func kindFlag(cmd *cobra.Command) {
	cmd.Flags().String("kind", registry.KindTool, "tool, prompt or instructions")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{registry.KindTool, registry.KindPrompt, registry.KindInstructions}, cobra.ShellCompDirectiveNoFileComp))
}

// named reads the reference and the kind of a command.
func named(cmd *cobra.Command, word string) (reference, error) {
	kind, err := cmd.Flags().GetString("kind")
	if err != nil {
		return reference{}, err
	}
	if !slices.Contains([]string{registry.KindTool, registry.KindPrompt, registry.KindInstructions}, kind) {
		return reference{}, fail(exitUsage, "use tool, prompt or instructions", fmt.Errorf("unknown kind %q", oneLine(kind)))
	}
	return parseReference(word, kind)
}
