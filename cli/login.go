package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/secret"
)

// adminClientID is the client as which the command line logs in at Warder's own authorization server.
const adminClientID = "warder-cli"

func loginCommand() *cobra.Command {
	var l login
	var stepUp bool
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Log in at the admin API of a gateway through the browser",
		Long: "Login opens the browser at the authorization server of the gateway and waits for the answer on a\n" +
			"loopback port (OAuth 2.1 code with PKCE). The token is bound to a key that never leaves this computer\n" +
			"(DPoP); key and token lie in the user's config folder, readable for this user only.",
		Example: "  warder login --server https://admin.example.com\n  warder login --no-browser --server https://admin.example.com\n  warder login link ana",
		GroupID: "setup",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			if l.resource, err = serverOf(cmd); err != nil {
				return err
			}
			if l.resource == "" {
				return fail(exitUsage, "name the gateway: warder login --server https://admin.example.com\nhint: on the machine of the gateway no login is needed: the socket of the data folder knows you", errors.New("which gateway?"))
			}
			if stepUp {
				l.acr, l.maxAge = []string{"phr", "phrh"}, new(time.Duration(0))
			}
			l.stderr = cmd.ErrOrStderr()
			if err := l.run(cmd.Context()); err != nil {
				return err
			}
			if p.json {
				return p.writeJSON(map[string]any{"server": l.resource, "logged_in": true})
			}
			return p.text("Logged in at %s", oneLine(l.resource))
		},
	}
	operateFlags(cmd)
	l.flags(cmd)
	cmd.Flags().StringVar(&l.clientID, "client-id", adminClientID, "OAuth client id of the command line at the authorization server")
	cmd.Flags().BoolVar(&stepUp, "step-up", false, "ask for a fresh login with a passkey, as destructive operations need")
	cmd.AddCommand(loginLinkCommand())
	return cmd
}

func (l *login) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&l.noBrowser, "no-browser", false, "print the address instead of opening the browser")
	cmd.Flags().StringSliceVar(&l.scopes, "scopes", nil, "scopes to ask for (default: what the server names)")
	cmd.Flags().StringVar(&l.document, "client-document", "", "URL of a client id metadata document to log in as")
}

func logoutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "logout",
		Short:   "Forget the login at a gateway: key, tokens and break-glass session",
		Example: "  warder logout --server https://admin.example.com",
		GroupID: "setup",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			key, err := serverOf(cmd)
			if err != nil {
				return err
			}
			if key == "" {
				data, err := dataOf(cmd)
				if err != nil {
					return err
				}
				key = "socket:" + data
			}
			known, err := forget(key)
			if err != nil {
				return err
			}
			if p.json {
				return p.writeJSON(map[string]any{"server": key, "forgotten": known})
			}
			if !known {
				return p.text("There was no login at %s", oneLine(key))
			}
			return p.text("Logged out of %s", oneLine(key))
		},
	}
	operateFlags(cmd)
	return cmd
}

func loginLinkCommand() *cobra.Command {
	var groups []string
	cmd := &cobra.Command{
		Use:     "link USER",
		Short:   "Make a one-time link with which the owner of a local account logs in and adds a passkey",
		Example: "  warder login link ana\n  warder login link ana --groups people,owners",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				link, err := do[admin.Link](ctx, d, admin.Ask{Operation: "links.create", Body: admin.LinkRequest{User: args[0], Groups: groups}})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(link)
				}
				return d.p.text("%s\nGood once, for %s. Whoever opens it is %s.", link.URL, in(link.NotAfter), oneLine(args[0]))
			})
		},
	}
	operateFlags(cmd)
	cmd.Flags().StringSliceVar(&groups, "groups", nil, "groups of the account from now on (default: as they are)")
	return cmd
}

// A login gets tokens for one resource through the browser and keeps them on this computer.
type login struct {
	resource  string
	clientID  string // pre-registered; empty: a metadata document, else a dynamic registration
	document  string
	scopes    []string
	noBrowser bool
	acr       []string
	maxAge    *time.Duration
	stderr    io.Writer
}

// patience is how long a login waits for the person.
const patience = 5 * time.Minute

func (l *login) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	root, err := accountFolder(l.resource, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	a := &account{root: root}
	if raw, err := root.ReadFile(accountFile); err == nil {
		_ = json.Unmarshal(raw, &a.kept) // what cannot be read is replaced
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("login: %w", err)
	}
	if a.kept.Resource != l.resource {
		a.kept = kept{Resource: l.resource}
	}
	if l.clientID == "" && l.document == "" && !a.kept.Dynamic {
		l.clientID = a.kept.Client // as at the login before
	}
	back, err := listenBack(ctx, a.kept.Redirect)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, back.close()) }()
	cfg := oauth.Config{Name: "Warder command line", Redirect: back.redirect, Document: l.document, Registrations: &dynamic{account: a, redirect: back.redirect}}
	if err := a.open(cfg); err != nil {
		return err
	}
	target, err := a.client.Discover(ctx, l.resource, nil)
	if err != nil {
		return fail(exitFailed, "is it the URL of an admin API or of an MCP server that asks for OAuth?", fmt.Errorf("find the authorization server of %s: %w", l.resource, err))
	}
	return l.through(ctx, a, target, back)
}

// through runs the flow and keeps what came of it.
func (l *login) through(ctx context.Context, a *account, found *oauth.Target, back *loopback) error {
	target := *found
	target.ACR, target.MaxAge = l.acr, l.maxAge
	reg := &oauth.Registration{Issuer: target.Server.Issuer, ClientID: l.clientID, Method: oauth.MethodNone}
	if l.clientID == "" {
		var err error
		if reg, err = a.client.Register(ctx, target.Server); err != nil {
			return fail(exitFailed, "name a client that is registered there with --client-id, or --client-document", fmt.Errorf("register at %s: %w", target.Server.Issuer, err))
		}
	}
	flow, address, err := a.client.Begin(ctx, &target, reg, target.Wanted(nil, l.scopes))
	if err != nil {
		return fmt.Errorf("begin login: %w", err)
	}
	back.expect(flow.State)
	l.show(ctx, a, address)
	answer, err := back.wait(ctx)
	if err != nil {
		return fail(exitFailed, "run the command again and finish in the browser", err)
	}
	tokens, err := a.client.Finish(ctx, &target, reg, flow, answer)
	if err != nil {
		return fail(exitRefused, "", fmt.Errorf("log in: %w", err))
	}
	k := &a.kept
	k.Issuer, k.Client, k.Method, k.Redirect = reg.Issuer, reg.ClientID, reg.Method, back.redirect
	k.Dynamic = l.clientID == "" && reg.ClientID != l.document
	k.Credential, k.CredentialEnd = string(reg.Secret.Bytes()), reg.NotAfter
	k.Refresh = ""
	a.take(tokens)
	return a.write()
}

// show brings the person to the browser.
func (l *login) show(ctx context.Context, a *account, address string) {
	if !l.noBrowser {
		if err := a.client.URLs().Open(ctx, address); err == nil {
			fmt.Fprintln(l.stderr, "Go on in the browser.")
			return
		}
	}
	fmt.Fprintf(l.stderr, "Open this address in a browser on this computer:\n%s\n", address)
}

// strongerLogin reads which login a challenge asks for (RFC 9470 section 3).
func strongerLogin(challenges []string) (acr []string, maxAge *time.Duration) {
	param := regexp.MustCompile(`(acr_values|max_age)="([^"]*)"`)
	for _, m := range param.FindAllStringSubmatch(strings.Join(challenges, ", "), -1) {
		switch m[1] {
		case "acr_values":
			acr = strings.Fields(m[2])
		case "max_age":
			if n, err := strconv.Atoi(m[2]); err == nil && n >= 0 {
				maxAge = new(time.Duration(n) * time.Second)
			}
		}
	}
	return acr, maxAge
}

// dynamic keeps the dynamic registration of an account. It is good for its redirect URI only.
type dynamic struct {
	account  *account
	redirect string
}

// Load implements oauth.Registrations.
func (d *dynamic) Load(_ context.Context, issuer string) (*oauth.Registration, error) {
	k := &d.account.kept
	if !k.Dynamic || k.Issuer != issuer || k.Redirect != d.redirect || k.Client == "" {
		return nil, oauth.ErrRegistration
	}
	return &oauth.Registration{Issuer: issuer, ClientID: k.Client, Method: k.Method, Secret: secret.New([]byte(k.Credential)), NotAfter: k.CredentialEnd}, nil
}

// Save implements oauth.Registrations. The registration is written with the tokens.
func (*dynamic) Save(context.Context, *oauth.Registration) error { return nil }

// A loopback is where the browser comes back to (RFC 8252 section 7.3).
type loopback struct {
	redirect string
	server   *http.Server
	state    chan string
	answer   chan url.Values
	done     chan error
}

// listenBack listens on a loopback port: that of the redirect URI of before if it is free, so that a
// registration stays good, else any.
func listenBack(ctx context.Context, before string) (*loopback, error) {
	var lc net.ListenConfig
	var l net.Listener
	err := errors.New("no port of before")
	if u, perr := url.Parse(before); perr == nil && u.Hostname() == "127.0.0.1" && u.Port() != "" {
		l, err = lc.Listen(ctx, "tcp", u.Host)
	}
	if err != nil {
		if l, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("wait for the browser: %w", err)
		}
	}
	b := &loopback{
		redirect: "http://" + l.Addr().String() + "/callback",
		state:    make(chan string, 1), answer: make(chan url.Values, 1), done: make(chan error, 1),
	}
	b.server = &http.Server{Handler: b.handler(), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 32 << 10}
	go func() { b.done <- b.server.Serve(l) }()
	return b, nil
}

// expect says which state belongs to the flow that began.
func (b *loopback) expect(state string) { b.state <- state }

// handler takes the one answer whose state is that of the flow; what else comes to the port is refused
// and ends nothing.
func (b *loopback) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		var want string
		select {
		case want = <-b.state:
		default:
			http.Error(w, "nothing is expected", http.StatusNotFound)
			return
		}
		q := r.URL.Query()
		if want == "" || q.Get("state") != want {
			b.state <- want
			http.Error(w, "this is not the answer to the login that began here", http.StatusBadRequest)
			return
		}
		b.answer <- q
		_, _ = io.WriteString(w, "You can close this window and go back to the terminal.\n") // the browser may be gone
	})
	return mux
}

// wait returns the query that the browser brought.
func (b *loopback) wait(ctx context.Context) (url.Values, error) {
	select {
	case q := <-b.answer:
		return q, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, errors.New("nobody finished the login in the browser")
		}
		return nil, ctx.Err()
	}
}

// close stops listening; the page that is being answered is answered.
func (b *loopback) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := b.server.Shutdown(ctx)
	if served := <-b.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
