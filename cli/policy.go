package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/layer/access/cedar"
	"github.com/warder-mcp/warder/registry"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "policy",
		Short:   "Check, test and explain access policies",
		Long:    "Policies are written in Cedar (access.policies, access.inline). These commands look at them without a\nrunning gateway; nothing is sent to a server.",
		GroupID: "decide",
	}
	group(cmd)
	cmd.AddCommand(policyCheckCommand(), policyTestCommand(), policyExplainCommand(), policySchemaCommand())
	return cmd
}

func policySchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the schema that policies are checked against, in Cedar's schema syntax",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			if p.json {
				return p.writeJSON(map[string]string{"schema": cedar.Schema()})
			}
			return p.text("%s", cedar.Schema())
		},
	}
}

func policyCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the policies against the schema, the servers and the registered tools",
		Long: "Check loads the policies of the configuration. A policy that uses an attribute which does not exist, or\n" +
			"one of another type, is an error of the schema. A policy that names a server, tool, prompt or argument\n" +
			"which nothing has is an error too: what it forbids would never match. Tools and their arguments are those\n" +
			"that the gateway has seen; those of a server that it never asked are not checked, and the command says so.\n\n" +
			"Exit code 3 means that a policy is wrong.",
		Example: "  warder policy check\n  warder policy check --config warder.yaml -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			at, err := locate(cmd)
			if err != nil {
				return err
			}
			engine, err := cedar.Load(at.cfg.Access)
			if err != nil {
				return fail(exitConfig, "the words of policies: warder policy schema", fmt.Errorf("policies: %w", err))
			}
			world, unseen, err := worldOf(cmd.Context(), at)
			if err != nil {
				return err
			}
			return checkedPolicies{engine.Len(), engine.References(world), unseen}.print(p)
		},
	}
	stateFlags(cmd)
	return cmd
}

// worldOf lists what policies can name. Servers that were never asked are unseen: what they offer is not
// known.
func worldOf(ctx context.Context, at located) (w cedar.World, unseen []string, err error) {
	for i := range at.cfg.Servers {
		w.Servers = append(w.Servers, at.cfg.Servers[i].Name)
	}
	for i := range at.cfg.Groups {
		w.Groups = append(w.Groups, at.cfg.Groups[i].Name)
	}
	entries, err := lastSeen(ctx, at)
	if err != nil {
		return w, nil, err
	}
	seen := map[string]bool{}
	for i := range entries {
		e := &entries[i]
		if !e.Latest {
			continue
		}
		seen[e.Server] = true
		d := cedar.ToolDefinition(e.Server, e.Name, e.Canonical)
		switch e.Kind {
		case registry.KindTool:
			w.Tools = append(w.Tools, d)
		case registry.KindPrompt:
			w.Prompts = append(w.Prompts, d)
		}
	}
	for _, s := range w.Servers {
		if !seen[s] {
			unseen = append(unseen, s)
		}
	}
	w.Unseen = unseen
	return w, unseen, nil
}

// lastSeen reads the registry; nothing if there is none yet.
func lastSeen(ctx context.Context, at located) (entries []registry.Entry, err error) {
	reg, done, err := openRegistry(ctx, at.data, nil)
	if f, ok := errors.AsType[*failureError](err); ok && f.code == exitFailed {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	return reg.List(ctx, registry.Filter{})
}

// checkedPolicies is what check found.
type checkedPolicies struct {
	Policies int           `json:"policies"`
	Faults   []cedar.Fault `json:"faults"`
	Unseen   []string      `json:"unseen_servers"`
}

func (c checkedPolicies) print(p *printer) error {
	c.Faults, c.Unseen = append([]cedar.Fault{}, c.Faults...), append([]string{}, c.Unseen...)
	err := c.show(p)
	if err == nil && len(c.Faults) > 0 {
		return silent(exitConfig)
	}
	return err
}

func (c checkedPolicies) show(p *printer) error {
	if p.json {
		return p.writeJSON(c)
	}
	if len(c.Faults) > 0 {
		g := &grid{header: []string{"POLICY", "PLACE", "WRONG", "DID YOU MEAN"}}
		for _, f := range c.Faults {
			g.add(f.Policy, f.Source, f.What, orDash(f.Near))
		}
		if err := p.table(g); err != nil {
			return err
		}
	}
	for _, s := range slices.Sorted(slices.Values(c.Unseen)) {
		if err := p.text("not checked: tools of %s, which has not been asked yet", oneLine(s)); err != nil {
			return err
		}
	}
	return p.text("%s, %s", counted(c.Policies, "policy set entry"), counted(len(c.Faults), "fault"))
}

// loadPolicies loads the policies of a configuration for the commands that decide with them.
func loadPolicies(cfg *config.Config) (*cedar.Engine, error) {
	engine, err := cedar.Load(cfg.Access)
	if err != nil {
		return nil, fail(exitConfig, "see: warder policy check", fmt.Errorf("policies: %w", err))
	}
	return engine, nil
}
