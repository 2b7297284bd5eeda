package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
)

func agentCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "agent",
		Short: "Register the agents that may act, and stop them",
		Long: "A registered agent has an owner who answers for it, and the tools it may use at most. It is known by\n" +
			"the OAuth client ids, actor subjects and SPIFFE ids that it shows.",
		GroupID: "decide",
	})
	cmd.AddCommand(agentRegisterCommand(), agentListCommand(), agentShowCommand(),
		agentSwitchCommand("disable", "Refuse every call of an agent", "disabled"),
		agentSwitchCommand("enable", "Let an agent act again", "enabled"))
	return cmd
}

func agentRegisterCommand() *cobra.Command {
	var r admin.AgentRegistration
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:     "register NAME",
		Short:   "Register an agent, or replace its registration",
		Example: "  warder agent register reporter --owner ana@example.com --client reporter-app --tool 'files/read_file' --tool 'mail/*'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if ttl > 0 {
				r.NotAfter = time.Now().Add(ttl).UTC().Truncate(time.Second)
			}
			return operating(cmd, func(ctx context.Context, d *desk) error {
				a, err := do[admin.Agent](ctx, d, admin.Ask{Operation: "agents.register", Path: map[string]string{"name": args[0]}, Body: r})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(a)
				}
				return d.p.text("registered %s, owned by %s", oneLine(a.Name), oneLine(a.Owner))
			})
		},
	}
	operateFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&r.Owner, "owner", localUser(), "who answers for it")
	f.StringSliceVar(&r.Clients, "client", nil, "OAuth client ids, actor subjects and SPIFFE ids that are this agent")
	f.StringSliceVar(&r.Roles, "role", nil, "groups it is in")
	f.StringSliceVar(&r.Tools, "tool", nil, "SERVER/TOOL it may use at most; * as server or tool matches any")
	f.DurationVar(&ttl, "for", 0, "how long the registration is good (default: until it is changed)")
	return cmd
}

func agentState(a *admin.Agent) string {
	switch {
	case a.Disabled:
		return "disabled"
	case !a.NotAfter.IsZero() && !time.Now().Before(a.NotAfter):
		return "ended"
	default:
		return "active"
	}
}

func agentListCommand() *cobra.Command {
	var owner string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List registered agents",
		Example: "  warder agent list --owner ana@example.com",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				list, err := all[admin.Agent](ctx, d, "agents.list", query("owner", owner))
				if err != nil {
					return err
				}
				g := &grid{header: []string{"NAME", "STATE", "OWNER", "CLIENTS", "TOOLS", "ENDS"}}
				for i := range list {
					a := &list[i]
					g.add(a.Name, agentState(a), a.Owner, orDash(strings.Join(a.Clients, ",")), orDash(strings.Join(a.Tools, ",")), in(a.NotAfter))
				}
				return d.p.print(list, g)
			})
		},
	}
	operateFlags(cmd)
	cmd.Flags().StringVar(&owner, "owner", "", "only those of this owner")
	return cmd
}

func agentShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a registered agent",
		Example: "  warder agent show reporter",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				a, err := do[admin.Agent](ctx, d, admin.Ask{Operation: "agents.get", Path: map[string]string{"name": args[0]}})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(a)
				}
				var b strings.Builder
				for _, row := range [][2]string{
					{"Agent", a.Name},
					{"State", agentState(&a)},
					{"Owner", a.Owner},
					{"Roles", orDash(strings.Join(a.Roles, ", "))},
					{"Clients", orDash(strings.Join(a.Clients, ", "))},
					{"Tools", orDash(strings.Join(a.Tools, ", "))},
					{"Ends", in(a.NotAfter)},
				} {
					fmt.Fprintf(&b, "%-9s %s\n", row[0]+":", oneLine(row[1]))
				}
				return d.p.text("%s", strings.TrimRight(b.String(), "\n"))
			})
		},
	}
	operateFlags(cmd)
	return cmd
}

func agentSwitchCommand(verb, short, done string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     verb + " NAME",
		Short:   short,
		Example: "  warder agent " + verb + " reporter",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				a, err := do[admin.Agent](ctx, d, admin.Ask{Operation: "agents." + verb, Path: map[string]string{"name": args[0]}, Body: admin.Reason{Reason: reason}})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(a)
				}
				return d.p.text("%s %s", done, oneLine(a.Name))
			})
		},
	}
	operateFlags(cmd)
	reasonFlag(cmd, &reason)
	return cmd
}
