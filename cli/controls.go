package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	warder "github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/catalog"
)

func controlsCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "controls",
		Short:   "Look at the control catalogue",
		GroupID: "look",
	})
	cmd.AddCommand(controlsListCommand(), controlsShowCommand())
	return cmd
}

func controlsListCommand() *cobra.Command {
	var layer, status string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the controls",
		Example: "  warder controls list --status implemented\n  warder controls list --layer tools -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			if layer != "" && !slices.Contains(catalog.Layers(), layer) {
				return fail(exitUsage, "layers are "+strings.Join(catalog.Layers(), ", "), fmt.Errorf("unknown layer %q", oneLine(layer)))
			}
			if status != "" && status != "implemented" && status != "planned" {
				return fail(exitUsage, "use implemented or planned", fmt.Errorf("unknown status %q", oneLine(status)))
			}
			c, err := catalog.Load()
			if err != nil {
				return err
			}
			chosen := []catalog.Control{}
			g := &grid{header: []string{"ID", "CONTROL", "LAYER", "MODES", "STATUS"}}
			for _, k := range c.Controls {
				if layer != "" && k.Layer != layer || status != "" && k.Status != status {
					continue
				}
				chosen = append(chosen, k)
				g.add(string(k.ID), k.Title, k.Layer, strings.Join(k.Modes, " "), k.Status)
			}
			return p.print(chosen, g)
		},
	}
	cmd.Flags().StringVar(&layer, "layer", "", "only this line of defence: "+strings.Join(catalog.Layers(), ", "))
	cmd.Flags().StringVar(&status, "status", "", "only implemented or planned controls")
	_ = cmd.RegisterFlagCompletionFunc("layer", cobra.FixedCompletions(catalog.Layers(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions([]string{"implemented", "planned"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func controlsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show one control: what it does, where it lives, what asks for it",
		Example: "  warder controls show PRT-02",
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			c, err := catalog.Load()
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			var ids []string
			for _, k := range c.Controls {
				ids = append(ids, string(k.ID)+"\t"+k.Title)
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			c, err := catalog.Load()
			if err != nil {
				return err
			}
			k, ok := c.Control(warder.ControlID(strings.ToUpper(args[0])))
			if !ok {
				return fail(exitFailed, "list them with: warder controls list", fmt.Errorf("no control is named %q", oneLine(args[0])))
			}
			if p.json {
				return p.writeJSON(k)
			}
			return showControl(p, c, k)
		},
	}
}

func showControl(p *printer, c *catalog.Catalog, k catalog.Control) error {
	modes := map[string]string{"R": "at run time", "G": "as generated configuration", "V": "by verification", "O": "as an operated workflow"}
	var how []string
	for _, m := range k.Modes {
		how = append(how, modes[m])
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n\n%s\n\n", k.ID, k.Title, k.Summary)
	fmt.Fprintf(&b, "Status:     %s, acts %s\n", k.Status, strings.Join(how, ", "))
	fmt.Fprintf(&b, "Layer:      %s\n", k.Layer)
	fmt.Fprintf(&b, "Package:    %s\n", k.Package)
	if k.Implemented() && k.Runtime() {
		file := strings.ToLower(strings.ReplaceAll(string(k.ID), "-", ""))
		fmt.Fprintf(&b, "Code:       %s/%s_*.go, test Test%s\n", k.Package, file, strings.ReplaceAll(string(k.ID), "-", ""))
		fmt.Fprintf(&b, "Page:       docs/controls/%s.md\n", k.ID)
	}
	if k.Later != "" {
		fmt.Fprintf(&b, "Not yet:    %s\n", k.Later)
	}
	fmt.Fprintf(&b, "Proof:      %s\n", k.Proof)
	if len(k.Bullets) > 0 {
		fmt.Fprintf(&b, "Paper:      arXiv 2504.08623, demand %s\n", strings.Trim(strings.ReplaceAll(fmt.Sprint(k.Bullets), " ", ", "), "[]"))
	}
	for _, t := range c.Threats {
		if slices.Contains(k.Threats, t.ID) {
			fmt.Fprintf(&b, "Threat:     %s %s\n", t.ID, t.Title)
		}
	}
	for _, s := range k.Standards {
		fmt.Fprintf(&b, "Standard:   %s\n", s)
	}
	return p.text("%s", strings.TrimRight(b.String(), "\n"))
}
