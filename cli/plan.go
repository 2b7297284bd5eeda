package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
)

func planCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "plan",
		Short: "Ask for and decide about work of several steps",
		Long: "A plan grants one tool after the other: each step is good for one call, and the next is granted when\n" +
			"that call succeeded. Somebody asks, somebody else approves the whole; it ends when its last step\n" +
			"succeeded, by time, after three failed calls of one step, or when it is revoked.",
		GroupID: "decide",
	})
	cmd.AddCommand(planRequestCommand(), planListCommand(), planShowCommand(),
		planDecideCommand("approve", "Approve a plan that was asked for", "  warder plan approve 01k…", "approved"),
		planDecideCommand("deny", "Refuse a plan that was asked for", "  warder plan deny 01k… --reason 'use the report instead'", "denied"),
		planDecideCommand("revoke", "End a plan and the grant of its step at once", "  warder plan revoke 01k… --reason 'work is done'", "revoked"))
	return cmd
}

func planRequestCommand() *cobra.Command {
	var r admin.PlanRequest
	var ttl time.Duration
	var bounds, purposes []string
	cmd := &cobra.Command{
		Use:   "request SERVER/TOOL[,TOOL...]...",
		Short: "Ask for tools one after the other",
		Long: "Each argument is one step, in order; of several tools of a step, the call of any completes it. --arg and\n" +
			"--purpose are about one step, named by its number: --arg N:BOUND, with bounds as those of\n" +
			"\"warder grant request\".",
		Example: "  warder plan request files/list files/read_file mail/send --for 1h --reason 'ticket 4711'\n" +
			"  warder plan request bank/quote bank/transfer --for 10m --arg '2:/amount<=100' --principal 'https://idp.example.com|ana'",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			steps, err := parseSteps(args, bounds, purposes)
			if err != nil {
				return err
			}
			r.Steps, r.TTLSeconds = steps, int64(ttl/time.Second)
			return operating(cmd, func(ctx context.Context, d *desk) error {
				plan, err := do[admin.Plan](ctx, d, admin.Ask{Operation: "plans.request", Body: r})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(plan)
				}
				return d.p.text("Asked for %s\nIt waits for approval: warder plan approve %s", describePlan(&plan), plan.ID)
			})
		},
	}
	operateFlags(cmd)
	f := cmd.Flags()
	f.DurationVar(&ttl, "for", time.Hour, "how long the whole plan shall be good from its approval")
	f.StringVar(&r.Principal, "principal", "", "who shall have it: ISSUER|SUBJECT or group:NAME (default: you)")
	f.StringVar(&r.Agent, "agent", "", "only through this registered agent")
	f.StringArrayVar(&bounds, "arg", nil, "bound on an argument of a step, such as '2:/amount<=100'")
	f.StringArrayVar(&purposes, "purpose", nil, "purpose that calls of a step must declare, such as '2:payroll'")
	reasonFlag(cmd, &r.Reason)
	return cmd
}

// parseSteps reads steps as they are typed.
func parseSteps(args, bounds, purposes []string) ([]admin.Step, error) {
	steps := make([]admin.Step, len(args))
	for i, word := range args {
		server, tools, ok := strings.Cut(word, "/")
		list := strings.Split(tools, ",")
		if !ok || server == "" || slices.Contains(list, "") {
			return nil, fail(exitUsage, "write steps like files/read_file or mail/send,draft", fmt.Errorf("step %d: %q is not SERVER/TOOL", i+1, oneLine(word)))
		}
		steps[i] = admin.Step{Server: server, Tools: list}
	}
	ofStep := func(flag, word string) (*admin.Step, string, error) {
		number, rest, ok := strings.Cut(word, ":")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 1 || n > len(steps) {
			return nil, "", fail(exitUsage, "begin it with the number of its step, such as 2:", fmt.Errorf("--%s %q: there is no such step", flag, oneLine(word)))
		}
		return &steps[n-1], rest, nil
	}
	for _, word := range bounds {
		step, rest, err := ofStep("arg", word)
		if err != nil {
			return nil, err
		}
		b, err := parseBound(rest)
		if err != nil {
			return nil, err
		}
		step.Arguments = append(step.Arguments, b)
	}
	for _, word := range purposes {
		step, rest, err := ofStep("purpose", word)
		if err != nil {
			return nil, err
		}
		step.Purpose = rest
	}
	return steps, nil
}

func stepText(s *admin.Step) string { return s.Server + "/" + strings.Join(s.Tools, ",") }

func describePlan(p *admin.Plan) string {
	words := make([]string, len(p.Steps))
	for i := range p.Steps {
		words[i] = stepText(&p.Steps[i])
	}
	return fmt.Sprintf("%s for %s, %s (%s)", oneLine(strings.Join(words, ", then ")), oneLine(p.Principal), time.Duration(p.TTLSeconds)*time.Second, p.ID)
}

func planListCommand() *cobra.Command {
	var status string
	states := []string{"pending", "active", "done", "denied", "revoked", "failed", "ended"}
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List plans, those that wait for approval included",
		Example: "  warder plan list --status pending\n  warder plan list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				list, err := all[admin.Plan](ctx, d, "plans.list", query())
				if err != nil {
					return err
				}
				list = slices.DeleteFunc(list, func(p admin.Plan) bool { return status != "" && p.Status != status })
				g := &grid{header: []string{"ID", "STATUS", "PRINCIPAL", "STEP", "NOW", "ENDS", "REASON"}}
				for i := range list {
					p := &list[i]
					now, ends := "-", in(p.NotAfter)
					if p.At > 0 && p.At <= len(p.Steps) {
						now = stepText(&p.Steps[p.At-1])
					}
					if p.Status == "pending" {
						ends = (time.Duration(p.TTLSeconds) * time.Second).String()
					}
					g.add(p.ID, p.Status, p.Principal, fmt.Sprintf("%d of %d", p.At, len(p.Steps)), now, ends, orDash(p.Reason))
				}
				return d.p.print(list, g)
			})
		},
	}
	operateFlags(cmd)
	cmd.Flags().StringVar(&status, "status", "", "only "+strings.Join(states[:len(states)-1], ", ")+" or "+states[len(states)-1])
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func planShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a plan with its steps, where it stands and who decided",
		Example: "  warder plan show 01k…",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				plan, err := do[admin.Plan](ctx, d, admin.Ask{Operation: "plans.get", Path: map[string]string{"id": args[0]}})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(plan)
				}
				return d.p.text("%s", strings.TrimRight(planText(&plan), "\n"))
			})
		},
		ValidArgsFunction: completeIDs("plans.list", ""),
	}
	operateFlags(cmd)
	return cmd
}

func planText(p *admin.Plan) string {
	var b strings.Builder
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name+":", oneLine(value))
		}
	}
	row("Plan", p.ID)
	row("Status", p.Status)
	row("Principal", p.Principal)
	row("Agent", p.Agent)
	for i := range p.Steps {
		s := &p.Steps[i]
		text := stepText(s)
		if i+1 == p.At && p.Status == "active" {
			text += "  <- granted now"
		}
		row(fmt.Sprintf("Step %d", i+1), text)
		for _, bound := range s.Arguments {
			row("  argument", boundText(&bound))
		}
		row("  purpose", s.Purpose)
	}
	row("Grant", p.Grant)
	if p.Failures > 0 {
		row("Failed", counted(p.Failures, "call")+" of this step")
	}
	row("Good for", (time.Duration(p.TTLSeconds) * time.Second).String())
	row("Asked", fmt.Sprintf("by %s %s", p.RequestedBy, ago(p.RequestedAt)))
	row("Reason", p.Reason)
	for _, v := range p.Votes {
		row("Approved", fmt.Sprintf("by %s %s", v.By, ago(v.At)))
	}
	if !p.NotAfter.IsZero() {
		row("Ends", p.NotAfter.Format(time.RFC3339))
	}
	row("Ended by", p.EndedBy)
	return b.String()
}

// planDecideCommand is a command that decides about one or several plans.
func planDecideCommand(verb, short, example, done string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     verb + " ID...",
		Short:   short,
		Example: example,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				decided := []admin.Plan{}
				for _, id := range args {
					p, err := do[admin.Plan](ctx, d, admin.Ask{Operation: "plans." + verb, Path: map[string]string{"id": id}, Body: admin.Reason{Reason: reason}})
					if err != nil {
						return errors.Join(fmt.Errorf("%s: %w", oneLine(id), err), printedPlans(d, decided, done))
					}
					decided = append(decided, p)
				}
				return printedPlans(d, decided, done)
			})
		},
		ValidArgsFunction: completeIDs("plans.list", ""),
	}
	operateFlags(cmd)
	reasonFlag(cmd, &reason)
	return cmd
}

// printedPlans says what was done.
func printedPlans(d *desk, plans []admin.Plan, done string) error {
	if d.p.json {
		return d.p.writeJSON(plans)
	}
	for i := range plans {
		text := done
		if done == "approved" && plans[i].Status == "pending" {
			text = "approved by you, still waiting for others:"
		}
		if err := d.p.text("%s %s", text, describePlan(&plans[i])); err != nil {
			return err
		}
	}
	return nil
}
