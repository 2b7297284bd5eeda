package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/issuer"
	accounts "github.com/warder-mcp/warder/issuer/login"
	"github.com/warder-mcp/warder/registry"
)

func upCommand() *cobra.Command {
	var u quickStart
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Try Warder: three sample servers, a token, and what is allowed and refused",
		Long: "Up makes a folder with keys, a database and an audit trail, starts three sample servers (notes and\n" +
			"weather are honest, trickster is not), stands in front of them with a local token issuer, makes a few\n" +
			"calls, shows how they ended, and then serves until it is interrupted. It listens on this machine only.",
		Example: "  warder up\n  warder up --once -o json",
		GroupID: "run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			if u.log, err = logger(cmd); err != nil {
				return err
			}
			u.printer, u.stderr = p, cmd.ErrOrStderr()
			return u.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&u.data, "data", "", "folder to use (default: up below the user's state folder)")
	cmd.Flags().StringVar(&u.address, "address", "127.0.0.1:8443", "loopback host:port to listen on")
	cmd.Flags().BoolVar(&u.once, "once", false, "end after the calls instead of serving")
	logFlags(cmd)
	if err := cmd.Flags().Set("log-level", "error"); err == nil {
		cmd.Flags().Lookup("log-level").DefValue = "error"
	}
	return cmd
}

// A quickStart is one run of "warder up".
type quickStart struct {
	data, address string
	once          bool
	log           *slog.Logger
	printer       *printer
	stderr        io.Writer
}

func (u *quickStart) run(ctx context.Context) (err error) {
	if err := u.prepare(ctx); err != nil {
		return err
	}
	servers, err := startSamples(ctx)
	if err != nil {
		return err
	}
	defer servers.stop()
	path, err := u.write(servers)
	if err != nil {
		return err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	a, err := open(ctx, cfg, u.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shut(ctx, a)) }()
	if _, err := a.Listen(ctx); err != nil {
		return fail(exitFailed, "choose another address with --address", err)
	}
	token, err := a.Mint(ctx, issuer.Claims{Subject: localUser(), Audience: cfg.Identity.Resource(demoGroup), Groups: []string{"people"}, TTL: issuer.MaxTTL})
	if err != nil {
		return err
	}
	demo := &demo{base: cfg.Identity.BaseURL, token: func(name string) (string, error) {
		return a.Mint(ctx, issuer.Claims{Subject: localUser(), Audience: cfg.Identity.Resource(name), Groups: []string{"people"}})
	}}
	if err := u.approveHonest(ctx, a, demo); err != nil {
		return err
	}
	rows, err := demo.play(ctx)
	if err != nil {
		return err
	}
	link, err := a.Link(ctx, accounts.Invite{User: localUser(), Groups: []string{"people"}, By: "warder up"})
	if err != nil {
		return err
	}
	if err := u.show(cfg, servers.self, path, token, link, rows); err != nil || u.once {
		return err
	}
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	var control sync.WaitGroup
	control.Go(func() { serveAdmin(stop, cfg.Data, a, u.log) })
	select {
	case <-ctx.Done():
	case err = <-servers.failed:
	}
	cancel()
	control.Wait()
	return err
}

// prepare makes the folder and finds the address.
func (u *quickStart) prepare(ctx context.Context) error {
	if u.data == "" {
		state, err := stateFolder()
		if err != nil {
			return err
		}
		u.data = filepath.Join(state, "up")
	}
	var err error
	if u.data, err = filepath.Abs(u.data); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if err := os.MkdirAll(u.data, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	host, port, err := config.SplitAddress(u.address)
	if err != nil || !config.IsLoopback(host) {
		return fail(exitUsage, "up listens on the loopback interface only", fmt.Errorf("address %q", oneLine(u.address)))
	}
	if port == "0" {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", u.address)
		if err != nil {
			return fmt.Errorf("find a port: %w", err)
		}
		u.address = l.Addr().String()
		return l.Close()
	}
	return nil
}

// demoGroup is the endpoint that holds all three samples.
const demoGroup = "samples"

// byName is a loopback address by name: browsers keep passkeys for names only.
func byName(address string) string {
	if port, ok := strings.CutPrefix(address, "127.0.0.1:"); ok {
		return "localhost:" + port
	}
	return address
}

// write writes the configuration, as a user could have.
func (u *quickStart) write(s *samples) (string, error) {
	path := filepath.Join(u.data, "warder.yaml")
	text := fmt.Sprintf(`# Written by warder up, at every start.
version: 1
data: %[1]q
listen:
  - address: %[2]q
identity:
  base_url: "http://%[7]s"
issuer:
  url: "http://%[7]s/issuer"
  # Clients log in through a browser; people begin with the one-time link that warder up prints.
  login: {local: {enabled: true}}
  dcr: {mode: open}
access:
  # Everybody with a token of the group "people" may use what was approved, but nothing that destroys.
  inline: |
    permit (principal in Warder::Group::"people", action, resource);
    forbid (principal, action == Warder::Action::"tools/call", resource) when { resource.effect == "destructive" };
servers:
  - name: notes
    run: {command: [%[3]q, sample, notes]}
  - name: weather
    url: "http://%[4]s/mcp"
  - name: trickster
    sse_url: "http://%[5]s/sse"
groups:
  - {name: %[6]s, servers: [notes, weather, trickster]}
`, u.data, u.address, s.self, s.weather, s.trickster, demoGroup, byName(u.address))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	return path, nil
}

// honest lists what the quick start approves, with the effect a reviewer would write down. Of the
// trickster it approves what looks harmless at first sight; the poisoned "add" it does not.
func honest() map[string]string {
	return map[string]string{
		"notes/list_notes": "read", "notes/read_note": "read", "notes/add_note": "write", "notes/delete_note": "destructive",
		"notes/instructions": "read", "weather/forecast": "read", "weather/instructions": "read",
		"trickster/convert": "read", "trickster/page": "read", "trickster/status": "read",
		"trickster/flood": "read", "trickster/garble": "read", "trickster/crash": "read",
	}
}

// approveHonest lets the gateway see every definition and approves the honest ones.
func (u *quickStart) approveHonest(ctx context.Context, a *app.App, d *demo) error {
	for _, name := range []string{"notes", "weather", "trickster"} {
		if _, err := d.list(ctx, name); err != nil {
			return fmt.Errorf("list tools of %s: %w", name, err)
		}
	}
	reg := a.Registry()
	entries, err := reg.List(ctx, registry.Filter{})
	if err != nil {
		return err
	}
	var chosen []registry.Entry
	for _, e := range entries {
		if honest()[e.Server+"/"+e.Name] != "" && e.State.String() != "approved" && e.Latest && approvable(e.Kind) {
			chosen = append(chosen, e)
		}
	}
	quiet := &printer{out: io.Discard}
	return decideAll(ctx, quiet, chosen, "approved", func(ctx context.Context, key registry.Key) error {
		effect, err := registry.ParseEffect(honest()[key.Server+"/"+key.Name])
		if err != nil {
			return err
		}
		return reg.Approve(ctx, registry.Request{Key: key, Who: localUser(), Effect: effect, Note: "warder up"})
	})
}

// samples are the child processes of the sample servers that speak over HTTP. The third is started by
// the gateway itself.
type samples struct {
	self               string // path of this program
	weather, trickster string // addresses
	failed             chan error
	cancel             context.CancelFunc
	wait               sync.WaitGroup
}

func startSamples(ctx context.Context) (*samples, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &samples{self: self, failed: make(chan error, 2), cancel: cancel}
	if s.weather, err = s.start(ctx, "weather"); err == nil {
		s.trickster, err = s.start(ctx, "trickster")
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// start runs one sample as a child process and returns the address it says.
func (s *samples) start(ctx context.Context, name string) (string, error) {
	cmd := exec.CommandContext(ctx, s.self, "sample", name)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", fmt.Errorf("start sample %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start sample %s: %w", name, err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return "", errors.Join(fmt.Errorf("start sample %s: it said no address: %w", name, err), cmd.Process.Kill(), cmd.Wait())
	}
	s.wait.Go(func() {
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			s.failed <- fmt.Errorf("sample %s ended: %w", name, err)
		}
	})
	return strings.TrimSpace(line), nil
}

// stop ends the child processes and waits for them.
func (s *samples) stop() {
	s.cancel()
	s.wait.Wait()
}
