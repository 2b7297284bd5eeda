package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/login"
	"github.com/warder-mcp/warder/layer/upstream"
	"github.com/warder-mcp/warder/revocation"
)

// An authority is Warder's own authorization server with its pages, as one configuration describes them.
type authority struct {
	*issuer.Issuer
	pages   *login.Service // nil when nobody can log in
	handler http.Handler

	stop context.CancelFunc
	work sync.WaitGroup
}

// openIssuer makes the authorization server; nil if the configuration names none.
func (a *App) openIssuer(ctx context.Context, cfg *config.Config, in *instance) (*authority, error) {
	if cfg.Issuer.URL == "" {
		return nil, nil
	}
	s := a.services
	out := &authority{}
	mode := func(id warder.ControlID) issuer.Mode {
		return issuer.Mode(cfg.Controls[id].ModeAt(a.opt.Now()).String())
	}
	nonces, err := a.issuerNonces(cfg)
	if err != nil {
		return nil, err
	}
	deps := issuer.Deps{
		Nonces: nonces,
		State:  s.db.State(), Replays: s.db.Replays(), Box: s.box, Record: s.trail.Append,
		Resources: func() []issuer.Resource { return in.resources },
		HTTP:      s.client("issuer", a.opt, trustRules(&cfg.Issuer.Config)...),
		KMS:       s.client("issuer.keys", a.opt, vaultRules(&cfg.Issuer.Keys.KMS.Vault)...),
		Revoke:    s.revoke,
		Revoked: func(p *warder.Principal) bool {
			_, revoked := s.revoked.Check(p, "", "", nil)
			return revoked
		},
		Mode: mode, Now: a.opt.Now, Log: a.opt.Log,
	}
	if cfg.Issuer.Login.Local.Enabled || len(cfg.Issuer.Login.Providers) > 0 {
		out.pages, err = login.New(cfg.Issuer.Login, login.Deps{
			State: s.db.State(), Box: s.box, Record: s.trail.Append, Revoke: s.revoke, Approvals: approvals{s.broker.Holds, cfg.Issuer.URL, cfg.Access.Approval.Self},
			HTTP:     s.client("login", a.opt, cfg.Issuer.Login.Allow()...),
			Withdraw: func(ctx context.Context, subject, client string) error { return out.Withdraw(ctx, subject, client) },
			Mode:     mode, Now: a.opt.Now, Log: a.opt.Log, URL: cfg.Issuer.URL,
		})
		if err != nil {
			return nil, err
		}
		deps.Login, deps.Consent, deps.Session, deps.Page = out.pages, out.pages, out.pages.User, out.pages.Page
	}
	own := cfg.Issuer.Config
	own.Clients = operatorClients(cfg)
	if out.Issuer, err = issuer.New(ctx, own, deps); err != nil {
		return nil, err
	}
	endpoints, err := out.Handler()
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	out.handler = endpoints
	out.start(ctx, a.opt.Log)
	return out, nil
}

// start runs what goes on beside requests.
func (o *authority) start(ctx context.Context, log *slog.Logger) {
	ctx, o.stop = context.WithCancel(context.WithoutCancel(ctx))
	o.work.Go(func() {
		if err := o.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			log.ErrorContext(ctx, "signing keys are no longer kept current", slog.Any("error", err))
		}
	})
	if o.pages != nil {
		o.work.Go(func() { o.pages.Run(ctx) })
	}
}

func (o *authority) close() {
	if o == nil {
		return
	}
	o.stop()
	o.work.Wait()
}

// mount serves the endpoints and the pages.
func (o *authority) mount(mux *http.ServeMux) {
	mux.Handle("/.well-known/", o.handler)
	if o.pages == nil {
		mux.Handle(o.Base()+"/", o.handler)
		return
	}
	pages := o.pages.Handler()
	for _, pattern := range o.pages.Routes() {
		mux.Handle(pattern, pages)
	}
	for _, name := range []string{"authorize", "token", "par", "register", "register/", "introspect", "revoke", "jwks.json", ".well-known/"} {
		mux.Handle(o.Base()+"/"+name, o.handler)
	}
	mux.Handle(o.Base()+"/", pages)
}

// revoke takes back what the authorization server has issued, on every replica.
func (s *services) revoke(ctx context.Context, r issuer.Revocation) error {
	return s.revoked.Revoke(ctx, revocation.Entry{
		Kind: revocation.Kind(r.Kind), Value: r.Value, At: r.At, NotAfter: r.NotAfter, Before: r.Before, Renewed: r.Renewed,
		Reason: r.Reason, By: r.By,
	})
}

// person is who is at the browser, by the names that tokens may call them.
func (o *authority) person(w http.ResponseWriter, r *http.Request) (*upstream.Person, bool) {
	u, ok := o.pages.Authenticate(w, r, issuer.Need{Back: r.URL.RequestURI()})
	if !ok || u == nil {
		return nil, false
	}
	return &upstream.Person{Tenant: u.Tenant, Names: []upstream.Name{{Issuer: o.URL(), Subject: u.Subject}, {Issuer: u.Issuer, Subject: u.Subject}}}, true
}

// approvals adapts the calls that wait for the page on which people decide.
type approvals struct {
	holds  *broker.Holds
	issuer string
	self   bool // callers may decide on their own calls
}

// Get implements login.Approvals.
func (a approvals) Get(ctx context.Context, id string) (login.Pending, error) {
	h, err := a.holds.Reveal(ctx, id)
	return a.pending(&h), pageError(err)
}

// Waiting implements login.Approvals.
func (a approvals) Waiting(ctx context.Context) ([]login.Pending, error) {
	list, err := a.holds.List(ctx, broker.HoldPending)
	out := make([]login.Pending, len(list))
	for i := range list {
		out[i] = a.pending(&list[i])
	}
	return out, err
}

// Decide implements login.Approvals.
func (a approvals) Decide(ctx context.Context, id, digest string, by *issuer.User, approve bool, note string) error {
	h, err := a.holds.Get(ctx, id)
	if err != nil {
		return pageError(err)
	}
	if h.Digest != digest {
		return login.ErrDecided
	}
	_, err = a.holds.Decide(ctx, broker.HoldDecision{
		Hold: id, Nonce: h.Nonce, Approve: approve, Channel: "page", Comment: note,
		By: broker.Person{Issuer: a.issuer, Subject: by.Subject, Groups: by.Groups},
	})
	return pageError(err)
}

func (a approvals) pending(h *broker.Hold) login.Pending {
	requester := strings.Split(h.Principal, "\x1f") // tenant, issuer, subject, client, agent
	p := login.Pending{
		ID: h.ID, Requester: h.Principal, Agent: h.Agent, Server: h.Server, Tool: h.Tool, Method: h.Method, Effect: h.Effect.String(),
		Final: h.Reversible() == "no", Arguments: h.Parameters, Purpose: h.Purpose, Why: h.Why, Risk: h.Urgency, Digest: h.Digest,
		Opened: h.OpenedAt, NotAfter: h.Expires, Open: h.Status == broker.HoldPending, Outcome: string(h.Status),
		Approvers: h.Approvers, Self: a.self, Votes: len(h.Votes), Needed: h.Needed,
	}
	const parts = 5
	if len(requester) == parts {
		p.Requester, p.Name, p.Client = requester[1]+"|"+requester[2], requester[2], requester[3]
	}
	return p
}

func pageError(err error) error {
	switch {
	case errors.Is(err, broker.ErrNotFound):
		return fmt.Errorf("%w: %w", login.ErrNoHold, err)
	case errors.Is(err, broker.ErrForbidden):
		return fmt.Errorf("%w: %w", login.ErrForbidden, err)
	case errors.Is(err, broker.ErrDecided), errors.Is(err, broker.ErrEnded), errors.Is(err, broker.ErrNonce):
		return fmt.Errorf("%w: %w", login.ErrDecided, err)
	default:
		return err
	}
}

// resourcesOf lists what tokens can be issued for: every server, every group, and the admin API.
func (in *instance) resourcesOf(cfg *config.Config) []issuer.Resource {
	var out []issuer.Resource
	for i := range cfg.Servers {
		out = append(out, issuer.Resource{URI: in.resource(cfg.Servers[i].Name, cfg.Servers[i].Resource), Server: cfg.Servers[i].Name})
	}
	for i := range cfg.Groups {
		out = append(out, issuer.Resource{URI: in.resource(cfg.Groups[i].Name, cfg.Groups[i].Resource), Server: cfg.Groups[i].Name})
	}
	if audience := cfg.Admin.API.Audience; audience != "" {
		out = append(out, issuer.Resource{URI: audience, Server: adminEndpoint, Logins: true})
	}
	return out
}

// trustRules lets documents and keys come from loopback addresses where the configuration names them.
func trustRules(cfg *issuer.Config) []safedial.Rule {
	var rules []safedial.Rule
	add := func(host string) {
		if config.IsLoopback(host) {
			rules = append(rules, safedial.Rule{Host: host, Loopback: true})
		}
	}
	for _, address := range trusted(cfg) {
		if u, err := url.Parse(address); err == nil {
			add(u.Hostname())
		}
	}
	for _, host := range cfg.CIMD.Allow {
		add(host)
	}
	return rules
}

// vaultRules let the signing keys be reached where the operator says they are, which is inside as a rule.
func vaultRules(v *issuer.Vault) []safedial.Rule {
	u, err := url.Parse(v.Address)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	return []safedial.Rule{{Host: u.Hostname(), Private: true}}
}

// trusted lists the addresses of key sets that the configuration names.
func trusted(cfg *issuer.Config) []string {
	var out []string
	for i := range cfg.Trust {
		out = append(out, cfg.Trust[i].JWKSURI)
	}
	for i := range cfg.Clients {
		out = append(out, cfg.Clients[i].JWKSURI)
	}
	return out
}

// Mint returns a token of Warder's own authorization server, for whoever has the system in hand anyway: the
// quick start, and tests.
func (a *App) Mint(ctx context.Context, c issuer.Claims) (string, error) {
	in := a.live.Load()
	if in.authority == nil {
		return "", fmt.Errorf("mint token: %w", ErrNoIssuer)
	}
	return in.authority.Mint(ctx, c)
}

// Link returns the address of a page that logs in a local user, once.
func (a *App) Link(ctx context.Context, invite login.Invite) (string, error) {
	in := a.live.Load()
	if in.authority == nil || in.authority.pages == nil {
		return "", login.ErrDisabled
	}
	return in.authority.pages.Link(ctx, invite)
}

// Sign signs claims as Warder's own authorization server, for tests that need tokens with odd claims.
func (a *App) Sign(ctx context.Context, typ string, claims any) (string, error) {
	in := a.live.Load()
	if in.authority == nil {
		return "", ErrNoIssuer
	}
	return in.authority.Sign(ctx, typ, claims)
}
