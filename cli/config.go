package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/config"
)

func configCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "config",
		Short:   "Write, check and understand the configuration",
		GroupID: "setup",
	})
	cmd.AddCommand(configInitCommand(), configCheckCommand(), configSchemaCommand(), configExplainCommand(), configDiffCommand())
	return cmd
}

// firstConfig is what "config init" writes: one local front door, nothing behind it.
const firstConfig = `# Configuration of Warder. Every key: warder config explain
# yaml-language-server: $schema=https://raw.githubusercontent.com/warder-mcp/warder/main/config/schema.json
version: 1

# Where clients connect. Plaintext is for this machine only; add tls to be reached from others.
listen:
  - address: "127.0.0.1:8443"

# The MCP servers behind the gateway, each at /mcp/NAME. Nothing is callable before it is approved:
# warder tools list
servers: []
#  - name: files
#    run: {command: [npx, -y, "@modelcontextprotocol/server-filesystem", /srv/files]}
#  - name: tickets
#    url: https://tickets.example.com/mcp

# Health and metrics.
admin:
  address: "127.0.0.1:9443"
`

func configInitCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "init [FILE]",
		Short:   "Write a first configuration file",
		Example: "  warder config init\n  warder config init /etc/warder/warder.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			name := fileArg(args)
			flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
			if force {
				flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
			}
			f, err := os.OpenFile(name, flags, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return fail(exitFailed, "choose another name, or overwrite it with --force", fmt.Errorf("write configuration: %s exists", oneLine(name)))
			}
			if err != nil {
				return fmt.Errorf("write configuration: %w", err)
			}
			_, err = f.WriteString(firstConfig)
			if err := errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("write configuration: %w", err)
			}
			if p.json {
				return p.writeJSON(map[string]string{"file": name})
			}
			return p.text("wrote %s\nnext: warder check %s", oneLine(name), oneLine(name))
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite an existing file")
	return cmd
}

func configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check the form of a configuration file: every problem at once",
		Long: "Check reads the file and nothing else. \"warder check\" also looks at what the file refers to.\n" +
			"With -o json the problems go to standard output.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			name := fileArg(args)
			if _, err := p.load(name); err != nil {
				return err
			}
			if p.json {
				return p.writeJSON(map[string]any{"file": name, "problems": []config.Problem{}})
			}
			return p.text("%s is valid", oneLine(name))
		},
	}
}

// load reads a configuration file whose problems are what the command prints.
func (p *printer) load(name string) (*config.Config, error) {
	cfg, err := config.Load(name)
	if e, ok := errors.AsType[*config.Error](err); ok && p.json {
		return nil, errors.Join(p.writeJSON(map[string]any{"file": name, "problems": e.Problems}), silent(exitConfig))
	}
	if err != nil {
		return nil, unreadable(err)
	}
	return cfg, nil
}

// unreadable gives a missing configuration file its hint.
func unreadable(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fail(exitConfig, "write one with: warder config init", err)
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		return err
	}
	return fail(exitConfig, "", err)
}

func fileArg(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return defaultConfig()
}

func configSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}

func configExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "explain [KEY]",
		Short:   "Explain a key of the configuration file",
		Example: "  warder config explain\n  warder config explain listen.tls",
		Args:    cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			all, err := config.Reference()
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return keys(all), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			key := ""
			if len(args) > 0 {
				key = args[0]
			}
			entry, err := config.Explain(key)
			if err != nil {
				return fail(exitFailed, "", err)
			}
			if p.json {
				return p.writeJSON(entry)
			}
			title := entry.Path
			if title == "" {
				title = "warder.yaml"
			}
			if err := p.text("%s (%s)\n%s", title, entry.Type, entry.Description); err != nil || len(entry.Children) == 0 {
				return err
			}
			g := &grid{header: []string{"KEY", "VALUE", "MEANING"}}
			for _, c := range entry.Children {
				g.add(c.Path[strings.LastIndexByte(c.Path, '.')+1:], c.Type, c.Description)
			}
			if err := p.text(""); err != nil {
				return err
			}
			return p.table(g)
		},
	}
}

func keys(entries []config.Entry) []string {
	var names []string
	for _, e := range entries {
		names = append(names, e.Path)
		names = append(names, keys(e.Children)...)
	}
	return names
}

func configDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Show what two configuration files do not share, and what the new one weakens",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			before, err := config.Load(args[0])
			if err != nil {
				return unreadable(err)
			}
			after, err := config.Load(args[1])
			if err != nil {
				return unreadable(err)
			}
			changes := config.Diff(before, after)
			now := time.Now()
			old := config.Defaults{}.Weakenings(before, now)
			weaker := slices.DeleteFunc(config.Defaults{}.Weakenings(after, now), func(w config.Weakening) bool { return slices.Contains(old, w) })
			if p.json {
				return p.writeJSON(map[string]any{"changes": append([]config.Change{}, changes...), "weaker": append([]config.Weakening{}, weaker...)})
			}
			if len(changes) == 0 {
				return p.text("the files mean the same")
			}
			g := &grid{header: []string{"KEY", "OLD", "NEW"}}
			for _, c := range changes {
				g.add(c.Path, orDash(c.From), orDash(c.To))
			}
			if err := p.table(g); err != nil {
				return err
			}
			return printWeakenings(p, weaker)
		},
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func printWeakenings(p *printer, weaker []config.Weakening) error {
	if len(weaker) == 0 {
		return nil
	}
	if err := p.text("\nweaker than the defaults:"); err != nil {
		return err
	}
	g := &grid{header: []string{"KEY", "CONTROL", "MEANS"}}
	for _, w := range weaker {
		g.add(w.Path, string(w.Control), w.Means)
	}
	return p.table(g)
}
