package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/registry"
)

func toolsListCommand() *cobra.Command {
	var server, state string
	var all bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the definitions that servers sent, and what was decided about them",
		Example: "  warder tools list --state quarantined\n  warder tools list --server notes -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			filter := registry.Filter{Server: server}
			if state != "" {
				i := slices.Index(states(), state)
				if i < 0 {
					return fail(exitUsage, "use "+strings.Join(states(), ", "), fmt.Errorf("unknown state %q", oneLine(state)))
				}
				wanted := []warder.State{warder.Quarantined, warder.Approved, warder.Revoked}[i]
				filter.State = &wanted
			}
			return reading(cmd, func(reg *registry.Registry) error {
				entries, err := reg.List(cmd.Context(), filter)
				if err != nil {
					return err
				}
				list := []entry{}
				g := &grid{header: []string{"STATE", "KIND", "REFERENCE", "EFFECT", "SEEN", "BY", "WHY NOT"}}
				for i := range entries {
					e := describe(&entries[i])
					if !all && !e.Latest && entries[i].State != warder.Approved {
						continue // history
					}
					list = append(list, e)
					g.add(e.State, e.Kind, e.short(), orDash(e.Effect), ago(e.LastSeen), orDash(e.DecidedBy), orDash(e.Reason))
				}
				return p.print(list, g)
			})
		},
	}
	stateFlags(cmd)
	cmd.Flags().StringVar(&server, "server", "", "only this server")
	cmd.Flags().StringVar(&state, "state", "", "only "+strings.Join(states(), ", "))
	cmd.Flags().BoolVar(&all, "all", false, "also definitions that others took the place of")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func states() []string {
	return []string{warder.Quarantined.String(), warder.Approved.String(), warder.Revoked.String()}
}

// ago says how long ago something was.
func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case t.IsZero():
		return "-"
	case d < time.Minute:
		return "now"
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return t.Format(time.DateOnly)
	}
}

func toolsShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show SERVER/NAME[@DIGEST]",
		Short:   "Show a definition as a model would read it, with hidden characters made visible",
		Example: "  warder tools show notes/search",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			ref, err := named(cmd, args[0])
			if err != nil {
				return err
			}
			return reading(cmd, func(reg *registry.Registry) error {
				found, err := reg.Find(cmd.Context(), ref.Subject, ref.digest)
				if err != nil {
					return err
				}
				e := describe(&found)
				if p.json {
					return p.writeJSON(struct {
						entry
						Definition json.RawMessage `json:"definition"`
					}{e, found.Canonical})
				}
				return showDefinition(p, e, found.Canonical)
			})
		},
	}
	stateFlags(cmd)
	kindFlag(cmd)
	return cmd
}

func showDefinition(p *printer, e entry, canonical []byte) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s/%s\n", e.Kind, oneLine(e.Server), registry.Visible(e.Name))
	fmt.Fprintf(&b, "Digest:     %s\n", e.Digest)
	state := e.State
	if e.Reason != "" {
		state += " (" + e.Reason + ")"
	}
	fmt.Fprintf(&b, "State:      %s\n", state)
	if e.DecidedBy != "" {
		fmt.Fprintf(&b, "Decided:    by %s at %s\n", oneLine(e.DecidedBy), e.DecidedAt.Format(time.RFC3339))
	}
	if e.Effect != "" {
		fmt.Fprintf(&b, "Effect:     %s\n", e.Effect)
	}
	if len(e.Labels) > 0 {
		fmt.Fprintf(&b, "Labels:     %s\n", strings.Join(e.Labels, ", "))
	}
	if e.Note != "" {
		fmt.Fprintf(&b, "Note:       %s\n", oneLine(e.Note))
	}
	fmt.Fprintf(&b, "Seen:       first %s, last %s\n", e.FirstSeen.Format(time.RFC3339), e.LastSeen.Format(time.RFC3339))
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, canonical, "", "  "); err != nil {
		return fmt.Errorf("show definition: %w", err)
	}
	b.WriteString("Definition:\n")
	for line := range strings.SplitSeq(pretty.String(), "\n") {
		b.WriteString("  " + registry.Visible(line) + "\n")
	}
	if e.State != warder.Approved.String() {
		fmt.Fprintf(&b, "\nApprove exactly this one with: warder tools approve %s", e.short())
		if e.Kind != registry.KindTool {
			fmt.Fprintf(&b, " --kind %s", e.Kind)
		}
		b.WriteString("\n")
	}
	return p.text("%s", strings.TrimRight(b.String(), "\n"))
}

func toolsDiffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff SERVER/NAME",
		Short: "Show how the definition a server sends now differs from the approved one",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			ref, err := named(cmd, args[0])
			if err != nil {
				return err
			}
			return reading(cmd, func(reg *registry.Registry) error {
				changes, old, now, err := reg.Diff(cmd.Context(), ref.Subject)
				if err != nil {
					return err
				}
				before, after := "", describe(&now)
				if old.Approval != nil {
					before = describe(&old).short()
				}
				if p.json {
					return p.writeJSON(map[string]any{"before": before, "after": after.short(), "changes": append([]registry.Change{}, changes...)})
				}
				if len(changes) == 0 {
					return p.text("%s is as it was approved", oneLine(after.short()))
				}
				if before == "" {
					before = "nothing was ever approved"
				}
				if err := p.text("--- %s\n+++ %s", oneLine(before), oneLine(after.short())); err != nil {
					return err
				}
				return registry.WriteChanges(p.out, changes)
			})
		},
	}
	stateFlags(cmd)
	kindFlag(cmd)
	return cmd
}
