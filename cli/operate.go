package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/config"
)

// operateFlags adds the flags that say which gateway a command speaks to: --server, or the socket of
// the data folder.
func operateFlags(cmd *cobra.Command) {
	stateFlags(cmd)
	cmd.Flags().String("server", "", "URL of the admin API of a gateway elsewhere (default: WARDER_SERVER; without it, the socket of the data folder)")
}

// A desk is the admin API of one gateway, as a command uses it.
type desk struct {
	*admin.Client
	p      *printer
	cmd    *cobra.Command
	server string // empty: the socket
	data   string // folder of the socket
}

// operating runs f with the admin API that the flags name, and explains its errors.
func operating(cmd *cobra.Command, f func(ctx context.Context, d *desk) error) error {
	p, err := out(cmd)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	d, err := openDesk(ctx, cmd)
	if err != nil {
		return err
	}
	d.p = p
	err = f(ctx, d)
	if again, stepped := d.stepUp(ctx, err); again {
		if stepped != nil {
			return stepped
		}
		err = f(ctx, d)
	}
	return d.explain(err)
}

func openDesk(ctx context.Context, cmd *cobra.Command) (*desk, error) {
	server, err := serverOf(cmd)
	if err != nil {
		return nil, err
	}
	d := &desk{cmd: cmd, server: server}
	if server != "" {
		d.Client, err = remote(ctx, server)
		return d, err
	}
	if d.data, err = dataOf(cmd); err != nil {
		return nil, err
	}
	d.Client, err = admin.Dial(ctx, d.data)
	if errors.Is(err, admin.ErrNotRunning) {
		return nil, fail(exitFailed, "start it with: warder serve\nhint: or name a gateway elsewhere with --server URL", fmt.Errorf("no gateway is running on %s", d.data))
	}
	if err != nil {
		return nil, err
	}
	token, err := loadGlass(d.key())
	if err == nil && token != "" {
		d.Client = d.With(bearer(token))
	}
	return d, err
}

// key names the gateway in what is kept on this computer.
func (d *desk) key() string {
	if d.server != "" {
		return d.server
	}
	return "socket:" + d.data
}

// serverOf is the URL of --server or WARDER_SERVER; empty if there is none, or if --data is given.
func serverOf(cmd *cobra.Command) (string, error) {
	server, err := cmd.Flags().GetString("server")
	if err != nil {
		return "", err
	}
	if server == "" && !cmd.Flags().Changed("data") && !cmd.Flags().Changed("config") {
		server = os.Getenv("WARDER_SERVER")
	}
	if server == "" {
		return "", nil
	}
	return resourceOf(server)
}

// resourceOf makes the URL of the admin API from what was typed: its path may be left out.
func resourceOf(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !config.IsLoopback(u.Hostname())) {
		return "", fail(exitUsage, "write it like https://admin.example.com", fmt.Errorf("%q is not the URL of an admin API", oneLine(server)))
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/admin/v1"
	}
	return u.String(), nil
}

// dataOf is the data folder that the flags name, as an absolute path.
func dataOf(cmd *cobra.Command) (string, error) {
	at, err := locate(cmd)
	if err != nil {
		return "", err
	}
	data, err := filepath.Abs(at.data)
	if err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	return data, nil
}

// remote is the admin API of a gateway elsewhere, with the credential that is kept for it.
func remote(ctx context.Context, server string) (*admin.Client, error) {
	token, err := loadGlass(server)
	if err != nil {
		return nil, err
	}
	if token == "" {
		token = os.Getenv("WARDER_ADMIN_TOKEN")
	}
	if token != "" {
		return admin.NewClient(server, plainClient(server), bearer(token)), nil
	}
	account, err := openAccount(ctx, server)
	if errors.Is(err, errNoAccount) {
		return admin.NewClient(server, plainClient(server), nil), nil
	}
	if err != nil {
		return nil, err
	}
	return admin.NewClient(server, account.http(), nil), nil
}

// bearer authorizes with a token that is bound to no key.
func bearer(token string) func(context.Context, *http.Request) error {
	return func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
}

// Codes of problems that a command acts on.
const (
	codeStepUp = "insufficient_user_authentication"
	codeLogin  = "unauthenticated"
)

// stepUp brings the person back to the browser when an operation needs a stronger login (RFC 9470). It
// reports whether to try again.
func (d *desk) stepUp(ctx context.Context, err error) (again bool, stepped error) {
	p, ok := errors.AsType[*admin.Error](err)
	if !ok || p.Code != codeStepUp || d.server == "" || !interactive(d.cmd.ErrOrStderr()) {
		return false, nil
	}
	fmt.Fprintf(d.cmd.ErrOrStderr(), "%s\n", lines(p.Error()))
	l := login{resource: d.server, stderr: d.cmd.ErrOrStderr()}
	l.acr, l.maxAge = strongerLogin(p.Challenge)
	if err := l.run(ctx); err != nil {
		return true, err
	}
	d.Client, err = remote(ctx, d.server)
	return true, err
}

// explain gives the refusals of the admin API their exit codes and hints.
func (d *desk) explain(err error) error {
	p, ok := errors.AsType[*admin.Error](err)
	if !ok {
		return err
	}
	text := errors.New(p.Error())
	switch p.Code {
	case codeLogin:
		hint := "log in with: warder login"
		if d.server != "" {
			hint += " --server " + d.server
		}
		return fail(exitRefused, hint, text)
	case codeStepUp:
		hint := "log in with a passkey: warder login --step-up"
		if d.server == "" {
			hint = "admin.api.local_owner is false: use warder admin break-glass, or a login over --server"
		}
		return fail(exitRefused, hint, text)
	case "forbidden", "refused":
		return fail(exitRefused, "", text)
	case "invalid_request":
		return fail(exitUsage, "see: "+d.cmd.CommandPath()+" --help", text)
	case "internal":
		return fail(exitFailed, "look for "+p.ID+" in the log of the gateway", text)
	default:
		return fail(exitFailed, "", text)
	}
}

// do carries out an operation whose answer is T.
func do[T any](ctx context.Context, d *desk, ask admin.Ask) (T, error) {
	var answer T
	err := d.Do(ctx, ask, &answer)
	return answer, err
}

// all reads every page of a list, up to a bound that no person reads beyond.
func all[T any](ctx context.Context, d *desk, operation string, q url.Values) ([]T, error) {
	const most = 10_000
	items := []T{}
	q.Set("limit", "500")
	for {
		page, err := do[admin.Page[T]](ctx, d, admin.Ask{Operation: operation, Query: q})
		if err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" || len(items) >= most {
			return items, nil
		}
		q.Set("after", page.Next)
	}
}

// query makes the parameters of a list; empty values are left out.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// in says how long it is until a time.
func in(t time.Time) string {
	d := time.Until(t)
	switch {
	case t.IsZero():
		return "-"
	case d <= 0:
		return "over"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	default:
		return t.Format(time.DateOnly)
	}
}

// reasonFlag adds --reason.
func reasonFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "why, for the record")
}
