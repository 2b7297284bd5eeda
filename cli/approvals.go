package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
)

func approvalsCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "approvals",
		Short: "See and decide about calls that wait for a person",
		Long: "A held call waits until somebody approves exactly it: the same principal, tool and parameters, once.\n" +
			"What nobody decides is denied by itself.",
		GroupID: "decide",
	})
	cmd.AddCommand(approvalsListCommand(), approvalsShowCommand(), approvalsWatchCommand(), approvalsDecideCommand(true), approvalsDecideCommand(false))
	return cmd
}

func holdGrid(list []admin.Hold) *grid {
	g := &grid{header: []string{"ID", "STATUS", "PRINCIPAL", "SERVER", "TOOL", "EFFECT", "RISK", "ENDS"}}
	for i := range list {
		h := &list[i]
		g.add(h.ID, h.Status, h.Principal, h.Server, orDash(h.Tool), orDash(h.Effect), strconv.Itoa(int(h.Risk)), in(h.Expires))
	}
	return g
}

func approvalsListCommand() *cobra.Command {
	var status string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List calls that wait, or were decided",
		Example: "  warder approvals list\n  warder approvals list --status denied -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				wanted := status
				if wanted == "any" {
					wanted = ""
				}
				list, err := all[admin.Hold](ctx, d, "holds.list", query("status", wanted))
				if err != nil {
					return err
				}
				slices.SortStableFunc(list, func(a, b admin.Hold) int { // the most urgent first (HIL-02)
					return cmp.Or(cmp.Compare(b.Urgency, a.Urgency), a.Opened.Compare(b.Opened))
				})
				return d.p.print(list, holdGrid(list))
			})
		},
	}
	operateFlags(cmd)
	cmd.Flags().StringVar(&status, "status", "pending", "pending, approved, denied, expired, consumed or any")
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions([]string{"pending", "approved", "denied", "expired", "consumed", "any"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func approvalsShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show ID",
		Short:             "Show a call that waits, with its complete parameters",
		Example:           "  warder approvals show 01k…",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeIDs("holds.list", "pending"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				h, err := getHold(ctx, d, args[0])
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(h)
				}
				return d.p.text("%s", strings.TrimRight(holdText(&h), "\n"))
			})
		},
	}
	operateFlags(cmd)
	return cmd
}

func getHold(ctx context.Context, d *desk, id string) (admin.Hold, error) {
	return do[admin.Hold](ctx, d, admin.Ask{Operation: "holds.get", Path: map[string]string{"id": id}})
}

// holdText shows a call to somebody who decides on it: everything that travels, nothing that hides.
func holdText(h *admin.Hold) string {
	var b strings.Builder
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name+":", oneLine(value))
		}
	}
	row("Call", h.ID)
	row("Status", h.Status)
	row("Principal", h.Principal)
	row("Agent", h.Agent)
	row("Tool", h.Server+"/"+h.Tool)
	row("Effect", h.Effect)
	row("Reversible", h.Reversible)
	row("Purpose", h.Purpose)
	row("Why", h.Why)
	row("Risk", fmt.Sprintf("%.0f of 100", h.Risk))
	row("Waits since", h.Opened.Format(time.RFC3339))
	row("Denied in", in(h.Expires))
	row("Needs", counted(max(h.Needed, 1), "approval"))
	for _, v := range h.Votes {
		row("Approved", fmt.Sprintf("by %s %s", v.By, ago(v.At)))
	}
	row("Denied by", h.DeniedBy)
	row("Comment", h.Comment)
	row("Digest", h.Digest)
	if len(h.Parameters) > 0 {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, h.Parameters, "  ", "  "); err == nil {
			b.WriteString("Parameters:\n  " + lines(pretty.String()) + "\n")
		}
	}
	return b.String()
}

func approvalsDecideCommand(approve bool) *cobra.Command {
	verb, short, done := "approve", "Let exactly this call pass, once", "approved"
	if !approve {
		verb, short, done = "deny", "Refuse a call that waits", "denied"
	}
	var comment, nonce string
	cmd := &cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Long: short + ". The call is shown first; the decision is about what was shown. --nonce decides\n" +
			"without showing, about the asking that \"warder approvals show -o json\" named.",
		Example:           "  warder approvals " + verb + " 01k…",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeIDs("holds.list", "pending"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				decision := admin.HoldDecision{Nonce: nonce, Comment: comment}
				if nonce == "" {
					h, err := getHold(ctx, d, args[0])
					if err != nil {
						return err
					}
					decision.Nonce = h.Nonce
					if !d.p.json {
						if err := d.p.text("%s", strings.TrimRight(holdText(&h), "\n")); err != nil {
							return err
						}
					}
				}
				h, err := do[admin.Hold](ctx, d, admin.Ask{Operation: "holds." + verb, Path: map[string]string{"id": args[0]}, Body: decision})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(h)
				}
				if approve && h.Status == "pending" {
					return d.p.text("approved by you, still waiting for others: %s", h.ID)
				}
				return d.p.text("%s %s", done, h.ID)
			})
		},
	}
	operateFlags(cmd)
	cmd.Flags().StringVar(&comment, "comment", "", "why, for the record")
	cmd.Flags().StringVar(&nonce, "nonce", "", "decide about the asking with this nonce without showing it")
	return cmd
}

func approvalsWatchCommand() *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use:     "watch",
		Short:   "Show calls as they begin to wait, until interrupted",
		Example: "  warder approvals watch",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < time.Second {
				return fail(exitUsage, "use --every 2s", errors.New("--every: want at least 1s"))
			}
			return operating(cmd, func(ctx context.Context, d *desk) error { return watchHolds(ctx, d, every) })
		},
	}
	operateFlags(cmd)
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often to ask")
	return cmd
}

// watchHolds prints each call once when it begins to wait.
func watchHolds(ctx context.Context, d *desk, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	seen := map[string]bool{}
	for {
		list, err := all[admin.Hold](ctx, d, "holds.list", query("status", "pending"))
		if ctx.Err() != nil {
			return nil // interrupted
		}
		if err != nil {
			return err
		}
		now := map[string]bool{}
		for i := range list {
			h := &list[i]
			now[h.ID] = true
			if seen[h.ID] {
				continue
			}
			if d.p.json {
				err = d.p.writeJSON(h)
			} else {
				err = d.p.text("%s  %s wants %s/%s (%s, risk %.0f), denied in %s", h.ID, oneLine(h.Principal), oneLine(h.Server), oneLine(h.Tool), h.Effect, h.Risk, in(h.Expires))
			}
			if err != nil {
				return err
			}
		}
		seen = now
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
