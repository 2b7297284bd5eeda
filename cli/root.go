package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"charm.land/fang/v2"
	"github.com/spf13/cobra"
)

// Main runs the command line of the process and returns the exit code.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// Run runs one command and returns its exit code. It ends when ctx is done.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := Root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	var code int
	err := fang.Execute(ctx, root,
		fang.WithVersion(version()),
		fang.WithErrorHandler(func(w io.Writer, _ fang.Styles, err error) {
			if _, ok := errors.AsType[*failureError](err); !ok && !started { // refused by cobra itself
				err = fail(exitUsage, "see: warder --help", err)
			}
			code = report(w, err)
		}))
	if err == nil {
		return exitOK
	}
	return code
}

// Root builds the tree of commands. The documentation is generated from it.
func Root() *cobra.Command {
	root := &cobra.Command{
		Use:   "warder",
		Short: "A security gateway for the Model Context Protocol",
		Long: "Warder stands between MCP clients and MCP servers. It identifies who calls, lets only approved\n" +
			"definitions through, checks every message in both directions, decides by policy, and writes\n" +
			"down what happened.",
		Example: "  warder up\n  warder serve --config warder.yaml\n  warder wrap -- npx @modelcontextprotocol/server-filesystem .",
	}
	group(root)
	root.PersistentFlags().StringP("output", "o", "table", "how to print: table or json")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fail(exitUsage, "see: "+cmd.CommandPath()+" --help", err)
	})
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run"},
		&cobra.Group{ID: "decide", Title: "Decide"},
		&cobra.Group{ID: "look", Title: "Look"},
		&cobra.Group{ID: "setup", Title: "Set up"},
	)
	root.AddCommand(
		upCommand(), serveCommand(), wrapCommand(), connectCommand(),
		toolsCommand(), policyCommand(), grantCommand(), planCommand(), approvalsCommand(), revokeCommand(), agentCommand(), sessionsCommand(), credentialsCommand(), tokenCommand(),
		statusCommand(), auditCommand(), explainCommand(), replayCommand(), controlsCommand(), versionCommand(),
		loginCommand(), logoutCommand(), adminCommand(), keysCommand(), checkCommand(), configCommand(),
		sampleCommand(),
	)
	return root
}

// group makes a command that only holds others: alone it prints its help, and a word that is no command
// is an error rather than help.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := "see: " + cmd.CommandPath() + " --help"
		if close := cmd.SuggestionsFor(args[0]); len(close) > 0 {
			hint = "did you mean: " + cmd.CommandPath() + " " + close[0]
		}
		return fail(exitUsage, hint, fmt.Errorf("unknown command %q for %q", oneLine(args[0]), cmd.CommandPath()))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// out returns the printer the user asked for.
func out(cmd *cobra.Command) (*printer, error) {
	format, err := cmd.Flags().GetString("output")
	if err != nil {
		return nil, err
	}
	switch format {
	case "table", "json":
		return &printer{out: cmd.OutOrStdout(), json: format == "json"}, nil
	default:
		return nil, fail(exitUsage, "use -o table or -o json", errors.New("unknown output format "+oneLine(format)))
	}
}

// configFlag adds --config to a command.
func configFlag(cmd *cobra.Command) {
	cmd.Flags().StringP("config", "c", defaultConfig(), "configuration file")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

func configPath(cmd *cobra.Command) string {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return defaultConfig()
	}
	return path
}

// defaultConfig is WARDER_CONFIG, or warder.yaml in the working directory.
func defaultConfig() string {
	if path := os.Getenv("WARDER_CONFIG"); path != "" {
		return path
	}
	return "warder.yaml"
}
