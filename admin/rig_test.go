package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/registry"
)

// A rig is an API with services that remember what they did, and logins by token.
type rig struct {
	t        *testing.T
	api      *API
	cfg      Config
	deps     Deps
	trail    *trail
	store    *brokenStore
	services *services

	mu          sync.Mutex
	logins      map[string]*warder.Principal
	down        error
	told        []Alert
	alertBroken error
}

const audience = "https://admin.example/admin/v1"

func newRig(t *testing.T, c *clock) *rig {
	t.Helper()
	r := &rig{t: t, trail: new(trail), services: new(services), logins: map[string]*warder.Principal{}}
	r.store = &brokenStore{Store: state.NewMemory(c.now)}
	r.cfg = Config{
		LocalOwner: true, Audience: audience,
		Roles: Roles{Viewer: []string{"staff"}, Approver: []string{"leads"}, Operator: []string{"ops"}, SecurityAdmin: []string{"sec"}, Owner: []string{"owners"}},
	}
	s := r.services
	r.deps = Deps{
		Grants: fakeGrants{s}, Holds: fakeHolds{s}, Plans: fakePlans{s}, Revocations: fakeRevocations{s}, Agents: fakeAgents{s},
		Definitions: fakeDefinitions{s}, Sessions: fakeSessions{s}, Consents: fakeConsents{s}, Keys: fakeKeys{s}, Credentials: fakeCredentials{s}, Links: fakeLinks{s},
		Authenticate: r.authenticate, Issuers: func() []string { return []string{"https://idp.example"} },
		State: r.store, Record: r.trail.Record, Alert: r.alert, Now: c.now,
	}
	r.api = testAPI(t, r.cfg, r.deps)
	return r
}

// local makes the API anew with another say about the local user.
func (r *rig) local(owner bool) {
	r.t.Helper()
	r.cfg.LocalOwner = owner
	r.api = testAPI(r.t, r.cfg, r.deps)
}

// login lets a token stand for ana, who is in groups.
func (r *rig) login(token string, groups []string, change func(*warder.Principal)) {
	p := &warder.Principal{Issuer: "https://idp.example", Subject: "ana", Groups: groups, Transport: "bearer", TokenID: "id-" + token}
	change(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logins[token] = p
}

func (r *rig) providerDown() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = warder.Fail(warder.CodeUnavailable, "keys_unavailable", errors.New("connection refused"))
}

func (r *rig) authenticate(req *http.Request) (*warder.Principal, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	p, ok := r.logins[strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")]
	if !ok {
		return nil, &warder.Error{Code: warder.CodeUnauthenticated, Reason: "token_unknown", Ask: &warder.Ask{Scheme: "Bearer", Error: "invalid_token"}}
	}
	return p, nil
}

func (r *rig) alert(_ context.Context, a Alert) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alertBroken != nil {
		return r.alertBroken
	}
	r.told = append(r.told, a)
	return nil
}

func (r *rig) alerts() []Alert {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told
}

// A brokenStore fails when it is told to.
type brokenStore struct {
	state.Store
	broken error
}

func (b *brokenStore) Get(ctx context.Context, kind, id string) (state.Doc, error) {
	if b.broken != nil {
		return state.Doc{}, b.broken
	}
	return b.Store.Get(ctx, kind, id)
}

// services remember what changed through them. Grants and holds "own" were asked for by ana, "mine" are
// for her, "other" are somebody else's; the agent "bot" is there already.
type services struct {
	mu     sync.Mutex
	log    []string
	broken error
}

func (s *services) do(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	s.log = append(s.log, what)
	return nil
}

func (s *services) done() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log
}

const ana = "https://idp.example|ana"

func whose(id string) (by, whom string) {
	switch id {
	case "own":
		return ana, "https://idp.example|bob"
	case "mine":
		return "https://idp.example|bob", ana
	default:
		return "https://idp.example|bob", "https://idp.example|bob"
	}
}

type (
	fakeGrants      struct{ *services }
	fakeHolds       struct{ *services }
	fakePlans       struct{ *services }
	fakeRevocations struct{ *services }
	fakeAgents      struct{ *services }
	fakeDefinitions struct{ *services }
	fakeSessions    struct{ *services }
	fakeConsents    struct{ *services }
	fakeKeys        struct{ *services }
	fakeCredentials struct{ *services }
	fakeLinks       struct{ *services }
)

func (f fakeGrants) Request(_ context.Context, by *Operator, r GrantRequest) (Grant, error) {
	return Grant{ID: "new", Principal: r.Principal, RequestedBy: by.Name()}, f.do("grant requested")
}

func (f fakeGrants) Approve(_ context.Context, _ *Operator, id string) (Grant, error) {
	return Grant{ID: id}, f.do("grant approved")
}

func (f fakeGrants) Deny(_ context.Context, _ *Operator, id, _ string) (Grant, error) {
	return Grant{ID: id}, f.do("grant denied")
}

func (f fakeGrants) Revoke(_ context.Context, _ *Operator, id, _ string) (Grant, error) {
	return Grant{ID: id}, f.do("grant revoked")
}

func (f fakeGrants) Get(_ context.Context, id string) (Grant, error) {
	if id == "absent" {
		return Grant{}, ErrNotFound
	}
	by, whom := whose(id)
	return Grant{ID: id, RequestedBy: by, Principal: whom}, f.broken
}

func (f fakeGrants) List(context.Context, GrantQuery) (Page[Grant], error) {
	return Page[Grant]{Items: []Grant{}}, nil
}

func (f fakeHolds) Decide(_ context.Context, _ *Operator, id string, approve bool, d HoldDecision) (Hold, error) {
	if d.Nonce != "n" {
		return Hold{}, ErrRefused
	}
	if approve {
		return Hold{ID: id}, f.do("hold approved")
	}
	return Hold{ID: id}, f.do("hold denied")
}

func (f fakeHolds) Show(_ context.Context, _ *Operator, id string) (Hold, error) {
	_, whom := whose(id)
	return Hold{ID: id, Nonce: "n", Principal: whom, Parameters: []byte(`{"secret":"x"}`)}, nil
}

func (f fakeHolds) Get(_ context.Context, id string) (Hold, error) {
	_, whom := whose(id)
	if id == "own" {
		whom = ana
	}
	return Hold{ID: id, Principal: whom}, f.broken
}

func (f fakeHolds) List(context.Context, HoldQuery) (Page[Hold], error) {
	return Page[Hold]{Items: []Hold{{ID: "h", Nonce: "n", Parameters: []byte(`{"secret":"x"}`)}}}, nil
}

func (f fakePlans) Request(context.Context, *Operator, PlanRequest) (Plan, error) {
	return Plan{ID: "new"}, f.do("plan requested")
}

func (f fakePlans) Approve(_ context.Context, _ *Operator, id string) (Plan, error) {
	return Plan{ID: id}, f.do("plan approved")
}

func (f fakePlans) Deny(_ context.Context, _ *Operator, id, _ string) (Plan, error) {
	return Plan{ID: id}, f.do("plan denied")
}

func (f fakePlans) Revoke(_ context.Context, _ *Operator, id, _ string) (Plan, error) {
	return Plan{ID: id}, f.do("plan revoked")
}

func (f fakePlans) Get(_ context.Context, id string) (Plan, error) { return Plan{ID: id}, f.broken }

func (f fakePlans) List(context.Context, PlanQuery) (Page[Plan], error) {
	return Page[Plan]{Items: []Plan{}}, nil
}

func (f fakeRevocations) Revoke(_ context.Context, _ *Operator, r RevocationRequest) (Revocation, error) {
	return Revocation{Kind: r.Kind, Value: r.Value}, f.do("revoked " + r.Kind)
}

func (f fakeRevocations) Lift(_ context.Context, _ *Operator, kind, _ string) error {
	return f.do("lifted " + kind)
}

func (f fakeRevocations) List(context.Context, RevocationQuery) (Page[Revocation], error) {
	return Page[Revocation]{Items: []Revocation{}}, nil
}

func (f fakeAgents) Register(_ context.Context, _ *Operator, a Agent) (Agent, error) {
	return a, f.do("agent registered")
}

func (f fakeAgents) Disable(_ context.Context, _ *Operator, name string, disabled bool) (Agent, error) {
	return Agent{Name: name, Disabled: disabled}, f.do("agent switched")
}

func (f fakeAgents) Get(_ context.Context, name string) (Agent, error) {
	if name != "bot" {
		return Agent{}, ErrNotFound
	}
	return Agent{Name: name, Owner: "bob"}, f.broken
}

func (f fakeAgents) List(context.Context, AgentQuery) (Page[Agent], error) {
	return Page[Agent]{Items: []Agent{}}, nil
}

func (f fakeDefinitions) Approve(context.Context, registry.Request) error {
	return f.do("tool approved")
}

func (f fakeDefinitions) Revoke(context.Context, registry.Request) error { return f.do("tool revoked") }

func (f fakeDefinitions) List(context.Context, registry.Filter) ([]registry.Entry, error) {
	var entries []registry.Entry
	for _, name := range []string{"c", "a", "b"} {
		entries = append(entries, registry.Entry{Definition: registry.Definition{Key: registry.Key{Server: "s", Kind: registry.KindTool, Name: name}}})
	}
	return entries, nil
}

func (f fakeSessions) List(context.Context, SessionQuery) (Page[Session], error) {
	return Page[Session]{Items: []Session{}}, nil
}

func (f fakeSessions) End(context.Context, *Operator, string, string) error {
	return f.do("session ended")
}

func (f fakeConsents) List(context.Context, ConsentQuery) (Page[Consent], error) {
	return Page[Consent]{Items: []Consent{}}, nil
}

func (f fakeConsents) Revoke(context.Context, *Operator, string) error {
	return f.do("consent revoked")
}

func (f fakeKeys) List(context.Context) ([]Key, error)              { return nil, nil }
func (f fakeKeys) Rotate(context.Context, *Operator) ([]Key, error) { return nil, f.do("keys rotated") }

func (f fakeKeys) Emergency(context.Context, *Operator, string) ([]Key, error) {
	return nil, f.do("keys replaced")
}

func (f fakeCredentials) List(context.Context, CredentialQuery) (Page[Credential], error) {
	return Page[Credential]{Items: []Credential{}}, nil
}

func (f fakeCredentials) Remove(context.Context, *Operator, string) error {
	return f.do("credential removed")
}

func (f fakeLinks) Create(context.Context, *Operator, LinkRequest) (Link, error) {
	return Link{URL: "https://gate.example/login/x"}, f.do("link made")
}
