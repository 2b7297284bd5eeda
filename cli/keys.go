package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
)

func keysCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "keys",
		Short:   "See and change the signing keys of Warder's own authorization server",
		GroupID: "setup",
	})
	cmd.AddCommand(keysListCommand(),
		keysChangeCommand("rotate", "Sign with a new key; tokens of the old one stay good until they end", "  warder keys rotate"),
		keysChangeCommand("emergency", "Sign with a new key and refuse every token of every other one at once", "  warder keys emergency --reason 'backup was lost'"))
	return cmd
}

func keyGrid(keys []admin.Key) *grid {
	g := &grid{header: []string{"ID", "ALGORITHM", "STATE", "MADE", "ENDS"}}
	for _, k := range keys {
		g.add(k.ID, k.Algorithm, k.State, ago(k.Created), in(k.NotAfter))
	}
	return g
}

func keysListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the signing keys",
		Example: "  warder keys list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				list, err := do[admin.KeyList](ctx, d, admin.Ask{Operation: "keys.list"})
				if err != nil {
					return err
				}
				return d.p.print(list.Items, keyGrid(list.Items))
			})
		},
	}
	operateFlags(cmd)
	return cmd
}

func keysChangeCommand(verb, short, example string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     verb,
		Short:   short,
		Example: example,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				list, err := do[admin.KeyList](ctx, d, admin.Ask{Operation: "keys." + verb, Body: admin.Reason{Reason: reason}})
				if err != nil {
					return err
				}
				return d.p.print(list.Items, keyGrid(list.Items))
			})
		},
	}
	operateFlags(cmd)
	reasonFlag(cmd, &reason)
	return cmd
}
