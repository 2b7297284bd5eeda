package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
)

func adminCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "admin",
		Short:   "Recovery codes and break-glass",
		GroupID: "setup",
	})
	cmd.AddCommand(recoveryCodesCommand(), breakGlassCommand())
	return cmd
}

func recoveryCodesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recovery-codes",
		Short: "Make new recovery codes for break-glass and print them, once",
		Long: "Each code opens one break-glass session. Only hashes are kept; print the codes and lock them away.\n" +
			"Codes of before are not good any more.",
		Example: "  warder admin recovery-codes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				codes, err := do[admin.RecoveryCodes](ctx, d, admin.Ask{Operation: "recovery_codes.create"})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(codes)
				}
				return d.p.text("%s\n\nEach is good for one use of: warder admin break-glass\nThey are not shown again.", strings.Join(codes.Codes, "\n"))
			})
		},
	}
	operateFlags(cmd)
	return cmd
}

func breakGlassCommand() *cobra.Command {
	var r admin.GlassRequest
	var ttl time.Duration
	var file string
	var end bool
	cmd := &cobra.Command{
		Use:   "break-glass --reason TEXT",
		Short: "Open a session of an owner with a recovery code, when nothing else works",
		Long: "Break-glass needs no identity provider: a recovery code opens a session of an owner for at most an hour.\n" +
			"Each code is good once. The use is written to the audit trail before it is in force and raises an alert.\n" +
			"The code is read from the terminal, from standard input, or from --code-file; never from an argument.",
		Example: "  warder admin break-glass --reason 'identity provider is down, INC-4711'\n  warder admin break-glass --end",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if end {
				return endGlass(cmd)
			}
			r.TTLSeconds = int64(ttl / time.Second)
			if strings.TrimSpace(r.Reason) == "" {
				return fail(exitUsage, "say why: warder admin break-glass --reason '…'", errors.New("break-glass needs a reason"))
			}
			code, err := readCode(cmd, file)
			if err != nil {
				return err
			}
			r.Code = code
			return operating(cmd, func(ctx context.Context, d *desk) error { return openGlass(ctx, d, r) })
		},
	}
	operateFlags(cmd)
	reasonFlag(cmd, &r.Reason)
	cmd.Flags().DurationVar(&ttl, "for", 15*time.Minute, "how long, at most 1h")
	cmd.Flags().StringVar(&file, "code-file", "", "file that holds the recovery code")
	cmd.Flags().BoolVar(&end, "end", false, "end every break-glass session")
	_ = cmd.MarkFlagFilename("code-file")
	return cmd
}

func openGlass(ctx context.Context, d *desk, r admin.GlassRequest) error {
	s, err := do[admin.GlassSession](ctx, d, admin.Ask{Operation: "break_glass.open", Body: r})
	if err != nil {
		return err
	}
	if err := saveGlass(d.key(), s.Token, s.NotAfter); err != nil {
		return fmt.Errorf("keep the session: %w", err)
	}
	s.Token = ""
	if d.p.json {
		return d.p.writeJSON(s)
	}
	return d.p.text("BREAK-GLASS is open for %s: the commands of this user act as owner.\nEnd it with: warder admin break-glass --end", in(s.NotAfter))
}

func endGlass(cmd *cobra.Command) error {
	return operating(cmd, func(ctx context.Context, d *desk) error {
		if err := d.Do(ctx, admin.Ask{Operation: "break_glass.end", Body: admin.Reason{}}, nil); err != nil {
			return err
		}
		root, err := accountFolder(d.key(), false)
		if err == nil {
			err = errors.Join(ignoreAbsent(root.Remove(glassFile)), root.Close())
		}
		if err != nil && !errors.Is(err, errNoAccount) {
			return err
		}
		if d.p.json {
			return d.p.writeJSON(map[string]bool{"ended": true})
		}
		return d.p.text("every break-glass session has ended")
	})
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// maxCode bounds a recovery code as it is typed.
const maxCode = 256

// readCode reads a recovery code without showing it.
func readCode(cmd *cobra.Command, file string) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("recovery code: %w", err)
		}
		defer f.Close()
		return firstLine(f)
	}
	if f, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(f.Fd()) {
		fmt.Fprint(cmd.ErrOrStderr(), "Recovery code: ")
		raw, err := term.ReadPassword(f.Fd())
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return "", fmt.Errorf("recovery code: %w", err)
		}
		return strings.TrimSpace(string(raw)), nil
	}
	return firstLine(cmd.InOrStdin())
}

func firstLine(r io.Reader) (string, error) {
	s := bufio.NewScanner(io.LimitReader(r, maxCode))
	if !s.Scan() || strings.TrimSpace(s.Text()) == "" {
		return "", fail(exitUsage, "give it on standard input or in --code-file", errors.Join(errors.New("there is no recovery code"), s.Err()))
	}
	return strings.TrimSpace(s.Text()), nil
}

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "What an operator should know at a glance",
		Example: "  warder status\n  warder status --server https://admin.example.com -o json",
		GroupID: "look",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				s, err := do[admin.Status](ctx, d, admin.Ask{Operation: "status.get"})
				if err != nil {
					return err
				}
				me, err := do[admin.Me](ctx, d, admin.Ask{Operation: "me.get"})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(map[string]any{"status": s, "me": me})
				}
				return d.p.text("%s", strings.TrimRight(statusText(&s, &me), "\n"))
			})
		},
	}
	operateFlags(cmd)
	return cmd
}

// statusText says what is loud first.
func statusText(s *admin.Status, me *admin.Me) string {
	var b strings.Builder
	for _, w := range s.Warnings {
		fmt.Fprintf(&b, "!! %s\n", oneLine(w))
	}
	row := func(name, value string) { fmt.Fprintf(&b, "%-13s %s\n", name+":", oneLine(value)) }
	row("Version", orDash(s.Version))
	row("Running since", orDash(s.Started.Format(time.RFC3339)))
	row("Servers", orDash(strings.Join(s.Servers, ", ")))
	row("Revoked", strconv.Itoa(s.Revocations))
	row("Waiting", counted(s.PendingHolds, "call"))
	row("Recovery", counted(s.Recovery, "code")+" left")
	for _, id := range sortedNames(s.Weakened) {
		row("Not enforced", id+" ("+s.Weakened[id]+")")
	}
	roles := make([]string, len(me.Roles))
	for i, r := range me.Roles {
		roles[i] = string(r)
	}
	row("You are", me.Name+" ("+orDash(strings.Join(roles, ", "))+")")
	return b.String()
}

func sortedNames(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
