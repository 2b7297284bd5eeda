package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
)

func sessionsCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "sessions",
		Short:   "See and end logins at Warder's own authorization server",
		GroupID: "decide",
	})
	cmd.AddCommand(sessionsListCommand(), sessionsEndCommand())
	return cmd
}

func sessionsListCommand() *cobra.Command {
	var principal string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List logins",
		Example: "  warder sessions list --principal 'https://gate.example.com/issuer|ana'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				list, err := all[admin.Session](ctx, d, "sessions.list", query("principal", principal))
				if err != nil {
					return err
				}
				g := &grid{header: []string{"ID", "PRINCIPAL", "NAME", "LOGIN", "SINCE", "ENDS"}}
				for i := range list {
					s := &list[i]
					g.add(s.ID, s.Principal, orDash(s.Name), orDash(strings.TrimSpace(s.ACR+" "+strings.Join(s.AMR, ","))), ago(s.AuthTime), in(s.NotAfter))
				}
				return d.p.print(list, g)
			})
		},
	}
	operateFlags(cmd)
	cmd.Flags().StringVar(&principal, "principal", "", "only those of ISSUER|SUBJECT")
	return cmd
}

func sessionsEndCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "end ID",
		Short:   "End a login; what was issued on it is refused",
		Example: "  warder sessions end 01k… --reason 'shared computer'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				if err := d.Do(ctx, admin.Ask{Operation: "sessions.end", Path: map[string]string{"id": args[0]}, Body: admin.Reason{Reason: reason}}, nil); err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(map[string]string{"ended": args[0]})
				}
				return d.p.text("ended %s", oneLine(args[0]))
			})
		},
	}
	operateFlags(cmd)
	reasonFlag(cmd, &reason)
	return cmd
}
