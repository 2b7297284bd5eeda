package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
)

func credentialsCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "credentials",
		Short: "See and remove what people granted Warder at servers",
		Long: "A person who authorized Warder at a server left a token here, which is shown to that server for this\n" +
			"person alone. Values are never printed. A token that is removed is forgotten on every gateway at once, and\n" +
			"revoked at the authorization server that issued it where that takes revocations; the trail says which.",
		GroupID: "decide",
	})
	cmd.AddCommand(credentialsListCommand(), credentialsRemoveCommand())
	return cmd
}

func credentialsListCommand() *cobra.Command {
	var server string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List credentials for servers, without their values",
		Example: "  warder credentials list --for notes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				list, err := all[admin.Credential](ctx, d, "credentials.list", query("server", server))
				if err != nil {
					return err
				}
				g := &grid{header: []string{"ID", "SERVER", "OWNER", "SCOPES", "ENDS"}}
				for i := range list {
					c := &list[i]
					g.add(c.ID, c.Server, orDash(c.Owner), orDash(strings.Join(c.Scopes, " ")), in(c.NotAfter))
				}
				return d.p.print(list, g)
			})
		},
	}
	operateFlags(cmd)
	cmd.Flags().StringVar(&server, "for", "", "only for this MCP server")
	return cmd
}

func credentialsRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove ID",
		Short:   "Forget a credential, and revoke it where it came from",
		Example: "  warder credentials remove 5f2c…",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				if err := d.Do(ctx, admin.Ask{Operation: "credentials.remove", Path: map[string]string{"id": args[0]}}, nil); err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(map[string]string{"removed": args[0]})
				}
				return d.p.text("removed %s", oneLine(args[0]))
			})
		},
	}
	operateFlags(cmd)
	return cmd
}
