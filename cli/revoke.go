package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
)

// kindsOf lists what can be revoked, with what its value looks like.
func revocableKinds() []struct{ kind, value, short string } {
	return []struct{ kind, value, short string }{
		{"token", "'ISSUER|JTI'", "Refuse one access token"},
		{"session", "'ISSUER|SID'", "Refuse everything that was issued on one login"},
		{"principal", "'ISSUER|SUBJECT'", "Refuse everything of one person"},
		{"agent", "NAME", "Refuse every call of a registered agent"},
		{"client", "CLIENT_ID", "Refuse every call of an OAuth client"},
		{"grant", "ID", "Refuse every call under a grant"},
		{"server", "NAME", "Refuse every call to a server"},
		{"tool", "SERVER/NAME", "Refuse every call of a tool"},
		{"tenant", "NAME", "Refuse every call of a tenant"},
		{"issuer", "URL", "Refuse every token of an issuer"},
	}
}

func revokeCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "revoke",
		Short: "Take rights away at once, on every replica, open streams included",
		Long: "A revocation stays until it is lifted, or for the time that --for says. To revoke everything, or to lift\n" +
			"a revocation, needs a phishing-resistant login (PUB-08).",
		Example: "  warder revoke principal 'https://idp.example.com|ana' --reason 'laptop stolen'\n  warder revoke tool files/delete --for 2h\n  warder revoke all",
		GroupID: "decide",
	})
	for _, k := range revocableKinds() {
		cmd.AddCommand(revokeKindCommand(k.kind, k.value, k.short))
	}
	cmd.AddCommand(revokeKindCommand("all", "", "Refuse every call of everybody"), revokeListCommand(), revokeLiftCommand())
	return cmd
}

func revokeKindCommand(kind, value, short string) *cobra.Command {
	var reason string
	var ttl time.Duration
	use, count := kind, 0
	if value != "" {
		use, count = kind+" "+value, 1
	}
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(count),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := "*"
			if count == 1 {
				target = args[0]
			}
			return operating(cmd, func(ctx context.Context, d *desk) error {
				r, err := do[admin.Revocation](ctx, d, admin.Ask{Operation: "revocations.create", Body: admin.RevocationRequest{
					Kind: kind, Value: target, Reason: reason, TTLSeconds: int64(ttl / time.Second),
				}})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(r)
				}
				until := "until it is lifted"
				if !r.NotAfter.IsZero() {
					until = "for " + in(r.NotAfter)
				}
				return d.p.text("revoked %s %s %s", r.Kind, oneLine(r.Value), until)
			})
		},
	}
	operateFlags(cmd)
	reasonFlag(cmd, &reason)
	cmd.Flags().DurationVar(&ttl, "for", 0, "how long (default: until it is lifted)")
	return cmd
}

func revokeListCommand() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List what is revoked",
		Example: "  warder revoke list --kind principal",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				list, err := all[admin.Revocation](ctx, d, "revocations.list", query("kind", kind))
				if err != nil {
					return err
				}
				g := &grid{header: []string{"KIND", "VALUE", "SINCE", "ENDS", "BY", "REASON"}}
				for i := range list {
					r := &list[i]
					g.add(r.Kind, r.Value, ago(r.At), in(r.NotAfter), orDash(r.By), orDash(r.Reason))
				}
				return d.p.print(list, g)
			})
		},
	}
	operateFlags(cmd)
	cmd.Flags().StringVar(&kind, "kind", "", "only token, session, principal, agent, client, grant, server, tool, tenant, issuer or all")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(revocableWords(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func revocableWords() []string {
	words := []string{"all"}
	for _, k := range revocableKinds() {
		words = append(words, k.kind)
	}
	return words
}

func revokeLiftCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "lift KIND VALUE",
		Short:   "Give rights back that were taken away",
		Example: "  warder revoke lift principal 'https://idp.example.com|ana'\n  warder revoke lift all '*'",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(revocableWords(), args[0]) {
				return fail(exitUsage, "use "+strings.Join(revocableWords(), ", "), fmt.Errorf("nothing of kind %q can be revoked", oneLine(args[0])))
			}
			value := "*"
			if len(args) == 2 {
				value = args[1]
			} else if args[0] != "all" {
				return fail(exitUsage, "see: warder revoke list", fmt.Errorf("which %s?", args[0]))
			}
			return operating(cmd, func(ctx context.Context, d *desk) error {
				if err := d.Do(ctx, admin.Ask{Operation: "revocations.lift", Body: admin.RevocationTarget{Kind: args[0], Value: value, Reason: reason}}, nil); err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(map[string]string{"lifted": args[0], "value": value})
				}
				return d.p.text("lifted %s %s", args[0], oneLine(value))
			})
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return revocableWords(), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	operateFlags(cmd)
	reasonFlag(cmd, &reason)
	return cmd
}
