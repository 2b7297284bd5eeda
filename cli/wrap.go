package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/layer/tools"
	"github.com/warder-mcp/warder/proxy/upstream"
)

// localPolicy is the policy of wrap and connect when none is given: the user of this machine may use
// what was approved. Everything else, such as schemas, limits and the audit trail, acts as always.
const localPolicy = `permit (principal, action, resource) when { principal.transport == "stdio" };`

// A pipe is one server behind the pipeline for the client at our standard input and output.
type pipe struct {
	name   string
	data   string
	base   string // configuration file to start from; empty: defaults
	policy string // policy file; empty: that of base, or localPolicy
	trust  string
	holder *holder // login at the server; nil: none
}

func (p *pipe) flags(cmd *cobra.Command, trust string) {
	cmd.Flags().StringVar(&p.name, "name", "", "name of the server in policies, approvals and records (default: from the argument)")
	cmd.Flags().StringVar(&p.data, "data", "", "folder for approvals, keys and the audit trail (default: one per name below the user's state folder)")
	cmd.Flags().StringVarP(&p.base, "config", "c", "", "configuration file to start from: its layers and policies, not its servers and front doors")
	cmd.Flags().StringVar(&p.policy, "policy", "", "policy file, instead of one that lets the local user use what is approved")
	cmd.Flags().StringVar(&p.trust, "trust", trust, "approved: a person approves every definition; first_use: definitions are approved as first seen")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	_ = cmd.MarkFlagFilename("policy", "cedar")
	_ = cmd.RegisterFlagCompletionFunc("trust", cobra.FixedCompletions([]string{"approved", "first_use"}, cobra.ShellCompDirectiveNoFileComp))
	logFlags(cmd)
}

func wrapCommand() *cobra.Command {
	var p pipe
	var env []string
	cmd := &cobra.Command{
		Use:   "wrap [flags] -- COMMAND [ARGUMENT...]",
		Short: "Put one local server behind the pipeline for a client that speaks over stdio",
		Long: "Wrap starts COMMAND with a minimal environment and stands between it and the client at standard input\n" +
			"and output. Nothing is usable before it is approved: see \"warder tools --data\". The command sees only\n" +
			"PATH, HOME, LANG and what --env passes on.",
		Example: "  warder wrap -- npx -y @modelcontextprotocol/server-filesystem /srv/files\n  warder wrap --name tickets --env TICKETS_TOKEN -- tickets-mcp",
		GroupID: "run",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server := config.Server{Name: p.name}
			if server.Name == "" {
				server.Name = nameOf(args)
			}
			run := upstream.Run{Command: args, SecretEnv: map[string]secret.Ref{}}
			for _, name := range env {
				run.SecretEnv[name] = secret.Ref{Env: name}
			}
			server.Run = &run
			return p.run(cmd, server)
		},
	}
	p.flags(cmd, "approved")
	cmd.Flags().StringSliceVar(&env, "env", nil, "names of environment variables to pass on")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func connectCommand() *cobra.Command {
	var p pipe
	var l login
	var tokenEnv, tokenFile string
	var signIn bool
	cmd := &cobra.Command{
		Use:   "connect URL",
		Short: "Bridge a client that speaks over stdio to a Warder endpoint, or any other",
		Long: "Connect speaks Streamable HTTP to URL and MCP over standard input and output to the client, through\n" +
			"the same pipeline as serve. The endpoint is taken to vet its definitions, so by default they are pinned\n" +
			"as first seen; a change is quarantined here until it is approved.\n\n" +
			"With --login it logs in at the endpoint's authorization server through the browser and holds the key\n" +
			"and the tokens for the client, which need not know OAuth nor DPoP. Later runs use that login.",
		Example: "  warder connect --login https://gate.example.com/mcp/notes\n  WARDER_TOKEN=$(warder token notes) warder connect http://127.0.0.1:8443/mcp/notes",
		GroupID: "run",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server := config.Server{Name: p.name}
			if server.Name == "" {
				server.Name = nameOf(args)
			}
			server.URL = args[0]
			if given(tokenEnv, tokenFile) {
				if err := authorize(cmd.Context(), &server, tokenEnv, tokenFile); err != nil {
					return err
				}
				return p.run(cmd, server)
			}
			l.resource, l.stderr = args[0], cmd.ErrOrStderr()
			var err error
			if p.holder, err = l.signIn(cmd.Context(), signIn); err != nil {
				return err
			}
			return p.run(cmd, server)
		},
	}
	p.flags(cmd, "first_use")
	cmd.Flags().StringVar(&tokenEnv, "token-env", "WARDER_TOKEN", "environment variable that holds the bearer token")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file that holds the bearer token")
	cmd.Flags().BoolVar(&signIn, "login", false, "log in through the browser if there is no login yet")
	cmd.Flags().StringVar(&l.clientID, "client-id", "", "OAuth client id (default: a metadata document, else a dynamic registration)")
	l.flags(cmd)
	return cmd
}

// authorizationEnv is the variable of our own process that carries the header to the upstream, which
// reads secrets by reference only. Connect starts no child that could inherit it.
const authorizationEnv = "WARDER_CONNECT_AUTHORIZATION"

// authorize lets the upstream send the bearer token that the variable or the file holds; without a
// token it sends none.
func authorize(ctx context.Context, server *config.Server, env, file string) error {
	ref := secret.Ref{Env: env}
	if file != "" {
		ref = secret.Ref{File: file}
	} else if os.Getenv(env) == "" {
		return nil
	}
	token, err := ref.Read(ctx)
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	if err := os.Setenv(authorizationEnv, "Bearer "+string(token.Bytes())); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	server.Headers = map[string]secret.Ref{"Authorization": {Env: authorizationEnv}}
	return nil
}

// run serves the client at standard input and output until it leaves.
func (p *pipe) run(cmd *cobra.Command, server config.Server) (err error) {
	log, err := logger(cmd)
	if err != nil {
		return err
	}
	cfg, err := p.configure(server)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	opt := app.Options{Log: log}
	if p.holder != nil {
		opt.Credential = p.holder.credential
	}
	a, err := openPipe(ctx, cfg, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shut(ctx, a)) }()
	log.InfoContext(ctx, "ready", slog.String("server", server.Name), slog.String("data", cfg.Data),
		slog.String("approve_with", "warder tools list --data "+cfg.Data))
	reportWeakenings(ctx, log, cfg)
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	var control sync.WaitGroup
	control.Go(func() { serveAdmin(stop, cfg.Data, a, log) })
	err = a.Stdio(ctx, server.Name, cmd.InOrStdin(), cmd.OutOrStdout())
	cancel()
	control.Wait()
	return err
}

// configure makes the configuration of the pipeline for one server.
func (p *pipe) configure(server config.Server) (*config.Config, error) {
	cfg := config.Default()
	if p.base != "" {
		var err error
		if cfg, err = config.Load(p.base); err != nil {
			return nil, unreadable(err)
		}
		cfg.Listen, cfg.Groups, cfg.Servers, cfg.Admin = nil, nil, nil, config.Default().Admin
	}
	cfg.Servers = []config.Server{server}
	if cfg.Identity.BaseURL == "" {
		cfg.Identity.BaseURL = "http://127.0.0.1"
	}
	switch {
	case p.policy != "":
		cfg.Access.Policies, cfg.Access.Inline = []string{p.policy}, ""
	case p.base == "":
		cfg.Access.Inline = localPolicy
	}
	cfg.Tools.Trust = tools.Trust(p.trust)
	cfg.Data = p.data
	if cfg.Data == "" {
		state, err := stateFolder()
		if err != nil {
			return nil, err
		}
		cfg.Data = filepath.Join(state, server.Name)
	}
	if found := config.Validate(cfg); len(found) > 0 {
		return nil, &config.Error{Problems: found}
	}
	return cfg, nil
}

// openPipe opens the system. Several clients may wrap the same server at once and share its approvals;
// an audit trail belongs to one process, so each further process takes the next one that is free.
func openPipe(ctx context.Context, cfg *config.Config, opt app.Options) (*app.App, error) {
	const most = 32
	base := cfg.Record.Dir
	if base == "" {
		base = filepath.Join(cfg.Data, "audit")
	}
	for i := 1; ; i++ {
		cfg.Record.Dir = base
		if i > 1 {
			cfg.Record.Dir = fmt.Sprintf("%s-%d", base, i)
		}
		a, err := openWith(ctx, cfg, opt)
		if err == nil || i == most || !strings.Contains(err.Error(), "in use by another process") {
			return a, err
		}
	}
}

// stateFolder is where wrap and connect keep their state: $XDG_STATE_HOME/warder.
func stateFolder() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "warder"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fail(exitFailed, "name a folder with --data", fmt.Errorf("find the state folder: %w", err))
	}
	return filepath.Join(home, ".local", "state", "warder"), nil
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// nameOf makes a server name from a command or a URL: of its last word that looks like a program, a
// package or a path.
func nameOf(args []string) string {
	best := args[0]
	for _, arg := range args[1:] {
		if !strings.HasPrefix(arg, "-") {
			best = arg
			break
		}
	}
	if !launcher(filepath.Base(args[0])) {
		best = args[0]
	}
	best = strings.TrimRight(best, "/")
	best = best[strings.LastIndexByte(best, '/')+1:]
	if at := strings.IndexByte(best, '@'); at > 0 {
		best = best[:at] // version of a package
	}
	best = strings.TrimSuffix(strings.TrimSuffix(best, ".js"), ".py")
	name := strings.Trim(notName.ReplaceAllString(strings.ToLower(best), "-"), "-")
	if name == "" {
		return "server"
	}
	return name[:min(len(name), 63)]
}

// launcher reports programs that start the server named by their first argument.
func launcher(name string) bool {
	switch name {
	case "npx", "node", "uvx", "uv", "python", "python3", "deno", "bun", "bunx", "docker", "podman", "sh", "bash":
		return true
	default:
		return false
	}
}
