package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Stand in front of the configured servers",
		Long: "Serve listens until it is interrupted. It reads the configuration again when the file changes and\n" +
			"on SIGHUP; a file that is not valid, or cannot be put in force, changes nothing. Keys about where\n" +
			"to listen take effect at the next start.",
		Example: "  warder serve --config /etc/warder/warder.yaml",
		GroupID: "run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logger(cmd)
			if err != nil {
				return err
			}
			path := configPath(cmd)
			cfg, err := config.Load(path)
			if err != nil {
				return unreadable(err)
			}
			if err := knownControls(cfg); err != nil {
				return fail(exitConfig, "list them with: warder controls list", err)
			}
			return serve(cmd.Context(), path, cfg, log, cmd.ErrOrStderr())
		},
	}
	configFlag(cmd)
	logFlags(cmd)
	return cmd
}

func serve(ctx context.Context, path string, cfg *config.Config, log *slog.Logger, stderr io.Writer) (err error) {
	watcher, err := config.Watch(path, log)
	if err != nil {
		return err
	}
	a, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shut(ctx, a)) }()
	addresses, err := a.Listen(ctx)
	if err != nil {
		return fail(exitFailed, "is another gateway running? change listen in "+path, err)
	}
	announce(stderr, cfg, addresses)
	reportWeakenings(ctx, log, cfg)
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	var control sync.WaitGroup
	control.Go(func() { serveAdmin(stop, cfg.Data, a, log) })
	err = watcher.Run(ctx, func(ctx context.Context, cfg *config.Config) error {
		if err := knownControls(cfg); err != nil {
			return err
		}
		if err := a.Reload(ctx, cfg); err != nil {
			return err
		}
		log.InfoContext(ctx, "configuration in force", slog.String("file", path))
		reportWeakenings(ctx, log, cfg)
		return nil
	}, func(ctx context.Context, err error) {
		log.ErrorContext(ctx, "configuration rejected, the old one stays in force", slog.String("file", path), slog.Any("error", err))
	})
	cancel()
	control.Wait()
	return err
}

// open builds the system; an error is a matter of the configuration or of what it refers to.
func open(ctx context.Context, cfg *config.Config, log *slog.Logger) (*app.App, error) {
	if err := noDump(); err != nil {
		return nil, fail(exitFailed, "", err)
	}
	return openWith(ctx, cfg, app.Options{Log: log})
}

func openWith(ctx context.Context, cfg *config.Config, opt app.Options) (*app.App, error) {
	opt.Version = version()
	a, err := app.Open(ctx, cfg, opt)
	if err != nil {
		return nil, fail(exitFailed, "", fmt.Errorf("start: %w", err))
	}
	return a, nil
}

// shut closes the system, also after ctx has ended.
func shut(ctx context.Context, a *app.App) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return a.Close(ctx)
}

// serveAdmin serves the socket of the data folder. Without it commands cannot decide about definitions
// while the gateway runs, but the gateway does its work.
func serveAdmin(ctx context.Context, data string, a *app.App, log *slog.Logger) {
	if err := admin.Serve(ctx, data, a.Admin(), log); err != nil {
		log.WarnContext(ctx, "no admin socket: definitions can be approved only while the gateway is stopped", slog.Any("error", err))
	}
}

// announce says where clients connect.
func announce(w io.Writer, cfg *config.Config, addresses []string) {
	if len(cfg.Listen) == 0 {
		fmt.Fprintln(w, "warder: nothing is exposed: the configuration has no front door (listen)")
	}
	for i, l := range cfg.Listen {
		scheme := "http"
		if l.TLS != nil {
			scheme = "https"
		}
		for _, s := range cfg.Servers {
			fmt.Fprintf(w, "warder: %s at %s://%s/mcp/%s\n", s.Name, scheme, reachable(addresses[i]), s.Name)
		}
		for _, g := range cfg.Groups {
			fmt.Fprintf(w, "warder: %s at %s://%s/mcp/%s (group of %s)\n", g.Name, scheme, reachable(addresses[i]), g.Name, strings.Join(g.Servers, ", "))
		}
		if len(cfg.Servers) == 0 {
			fmt.Fprintf(w, "warder: %s://%s has no server behind it (servers)\n", scheme, reachable(addresses[i]))
		}
	}
	rest := addresses[len(cfg.Listen):]
	if cfg.Admin.Address != "" && len(rest) > 0 {
		fmt.Fprintf(w, "warder: health and metrics at http://%s/healthz, /readyz, /metrics\n", rest[0])
		rest = rest[1:]
	}
	if cfg.Admin.API.Address != "" && len(rest) > 0 {
		fmt.Fprintf(w, "warder: operators at %s (listening on %s)\n", cfg.Admin.API.Audience, rest[0])
	}
}

// reachable turns the address of a listener on every interface into one that can be dialed here.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || (host != "::" && host != "0.0.0.0") {
		return address
	}
	return net.JoinHostPort("localhost", port)
}

// reportWeakenings says at every start what is weaker than the defaults (TAB-03).
func reportWeakenings(ctx context.Context, log *slog.Logger, cfg *config.Config) {
	for _, w := range (config.Defaults{}).Weakenings(cfg, time.Now()) {
		log.WarnContext(ctx, "weaker than the default", slog.String("key", w.Path), slog.String("control", string(w.Control)), slog.String("means", w.Means))
	}
}

// logFlags adds the flags of the log of commands that run.
func logFlags(cmd *cobra.Command) {
	cmd.Flags().String("log-level", "info", "debug, info, warn or error")
	cmd.Flags().String("log-format", "text", "text or json")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// logger makes the log, which goes to standard error.
func logger(cmd *cobra.Command) (*slog.Logger, error) {
	word, err := cmd.Flags().GetString("log-level")
	if err != nil {
		return nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(word)); err != nil {
		return nil, fail(exitUsage, "use debug, info, warn or error", fmt.Errorf("unknown log level %q", oneLine(word)))
	}
	format, err := cmd.Flags().GetString("log-format")
	if err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), options)), nil
	default:
		return nil, fail(exitUsage, "use text or json", fmt.Errorf("unknown log format %q", oneLine(format)))
	}
}
