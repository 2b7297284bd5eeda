package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// Deps is what the API works with. A service that is nil makes its operations answer not_configured.
type Deps struct {
	Grants      Grants
	Holds       Holds
	Plans       Plans
	Revocations Revocations
	Agents      Agents
	Definitions Definitions
	Sessions    Sessions
	Consents    Consents
	Keys        Keys
	Credentials Credentials
	Links       Links
	Status      func(ctx context.Context) (Status, error) // what the gateway knows of itself; nil: nothing

	// Authenticate verifies the credential of a request whose audience must be the admin API. Its errors
	// are *warder.Error with an Ask, where the client can do something about it. nil: the listener hears
	// nobody but break-glass.
	Authenticate func(r *http.Request) (*warder.Principal, error)
	// Issuers are the authorization servers that the metadata of the API names.
	Issuers func() []string

	State  state.Store                                     // recovery codes and break-glass sessions; nil: there is no break-glass
	Record func(ctx context.Context, e warder.Event) error // audit trail, until it is part of the signed tree; required
	Note   func(ctx context.Context, e warder.Event) error // audit trail, until it is durable, for what only takes rights away; nil: Record
	Alert  func(ctx context.Context, a Alert) error        // tells somebody; nil: the audit trail and the log only
	Now    func() time.Time                                // nil means time.Now
	Log    *slog.Logger                                    // nil discards
}

// An API is the admin plane. It is safe for concurrent use.
type API struct {
	cfg        Config
	deps       Deps
	factor     *secondFactor
	glass      *BreakGlass
	rates      *rates
	rules      map[string]rule
	operations []operation
	mux        *http.ServeMux
	origin     *http.CrossOriginProtection
	changes    sync.Mutex // orders operations on versioned things
}

// New makes the API. It refuses a table of roles that does not fit the operations.
func New(cfg Config, deps Deps) (*API, error) {
	if deps.Record == nil {
		return nil, errors.New("admin: no audit trail")
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if deps.Note == nil {
		deps.Note = deps.Record
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{
		cfg: cfg, deps: deps, factor: newSecondFactor(&cfg.Factor, deps.Now), rates: newRates(deps.Now), rules: rules(),
		mux: http.NewServeMux(), origin: http.NewCrossOriginProtection(),
	}
	a.glass = newBreakGlass(&a.deps)
	a.operations = a.table()
	known := map[string]bool{}
	for i := range a.operations {
		o := &a.operations[i]
		known[o.id] = true
		if _, ok := a.rules[o.id]; !ok && !o.open {
			return nil, fmt.Errorf("admin: no rule says who may %s", o.id)
		}
		a.mux.Handle(o.method+" "+prefix+o.path, a.serving(o))
	}
	for id := range a.rules {
		if !known[id] {
			return nil, fmt.Errorf("admin: a rule is about %s, which is no operation", id)
		}
	}
	a.mux.HandleFunc("GET "+prefix+"/openapi.json", a.serveDocument)
	if path := metadataPath(cfg.Audience); path != "" {
		a.mux.HandleFunc("GET "+path, a.serveMetadata)
	}
	return a, nil
}

// Control names the control that guards destructive operations.
func (*API) Control() warder.ControlID { return (*secondFactor)(nil).Control() }

// Handler serves the API.
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.route) }

// route answers what no operation does with a problem, and protects every answer.
func (a *API) route(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if crossOrigin(a.origin, r) {
		problem(http.StatusForbidden, codeCrossOrigin, "pages of other origins have no business here").write(w)
		return
	}
	if _, pattern := a.mux.Handler(r); pattern == "" {
		a.unrouted(w, r)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// crossOrigin reports requests that a page of another origin made. Safe methods are judged too: there is
// no cookie, and nothing for another page to read.
func crossOrigin(p *http.CrossOriginProtection, r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return true
	}
	probe := *r
	probe.Method = http.MethodPost
	return p.Check(&probe) != nil
}

func (a *API) unrouted(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe := *r
		probe.Method = method
		if _, pattern := a.mux.Handler(&probe); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		problem(http.StatusMethodNotAllowed, codeMethod, "allowed here: "+strings.Join(allowed, ", ")).write(w)
		return
	}
	problem(http.StatusNotFound, codeNotFound, "there is no such operation; see "+prefix+"/openapi.json").write(w)
}

// serving makes the handler of an operation.
func (a *API) serving(o *operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		out, c, err := a.serve(w, r, o)
		if err != nil {
			p := problemOf(err, r.Header.Get("If-Match") != "")
			if p.Status == http.StatusInternalServerError || p.Status == http.StatusServiceUnavailable {
				fresh := *p // shared ones are not changed
				p = &fresh
				p.ID = warder.NewID(a.deps.Now())
				a.deps.Log.ErrorContext(r.Context(), "admin operation", slog.String("operation", o.id), slog.String("id", p.ID), slog.Any("error", err))
			}
			p.write(w)
			return
		}
		a.answer(w, r, c, out)
	})
}

// serve carries out one request: who, may they, what, with which factor, write it down, do it.
func (a *API) serve(w http.ResponseWriter, r *http.Request, o *operation) (any, *call, error) {
	ctx := r.Context()
	by, err := a.admit(w, r, o)
	if err != nil {
		return nil, nil, err
	}
	c := &call{op: o, by: by, path: r.PathValue, header: w.Header()}
	row := a.rules[o.id]
	if !o.open && !row.allows(by.Roles) {
		a.refused(ctx, c, codeForbidden)
		return nil, nil, problem(http.StatusForbidden, codeForbidden, o.id+" is for the roles "+words(row.roles))
	}
	if !o.present {
		return nil, nil, problem(http.StatusNotImplemented, codeAbsent, "this gateway is not configured for "+o.id)
	}
	in, err := o.decode(r)
	if err != nil {
		return nil, nil, err
	}
	if err := a.checkFactor(ctx, c, &row, in); err != nil {
		return nil, nil, err
	}
	if o.current != nil {
		a.changes.Lock()
		defer a.changes.Unlock()
	}
	if err := ifMatch(ctx, r, c); err != nil {
		return nil, nil, err
	}
	if err := a.intend(ctx, c, &row, in); err != nil {
		return nil, nil, err
	}
	out, err := o.run(ctx, c, in)
	if err != nil && o.method != http.MethodGet && !o.open { // what is open writes its own entries
		a.failed(ctx, c, in, problemOf(err, false).Code)
	}
	return out, c, err
}

// checkFactor asks for the second factor where the operation needs it.
func (a *API) checkFactor(ctx context.Context, c *call, row *rule, in any) error {
	if c.op.open || c.by.Factor != "" {
		return nil
	}
	asked, err := false, error(nil)
	if row.factor == NeedSometimes && c.op.needs != nil {
		asked, err = c.op.needs(ctx, c, in)
		if missing(err) {
			return err
		}
		if err != nil {
			a.deps.Log.WarnContext(ctx, "ask whether the second factor is needed", slog.String("operation", c.op.id), slog.Any("error", err))
		}
	}
	if !needed(row, asked, err) {
		return nil
	}
	a.refused(ctx, c, codeStepUp)
	challenge(c.header, a.factor.ask(metadataURL(a.cfg.Audience)))
	return problem(http.StatusUnauthorized, codeStepUp, c.op.id+" needs a phishing-resistant login, such as a passkey, not older than "+a.factor.maxAge.String())
}

// ifMatch compares the thing an operation changes with the one the client looked at (RFC 9110 section
// 13.1.1). Operations of this process on versioned things run one after the other; between replicas the
// services' own compare-and-swap decides.
func ifMatch(ctx context.Context, r *http.Request, c *call) error {
	tag := r.Header.Get("If-Match")
	if tag == "" {
		return nil
	}
	if c.op.current == nil {
		return invalid("If-Match has no meaning for %s", c.op.id)
	}
	now, err := c.op.current(ctx, c)
	if err != nil {
		return err
	}
	body, err := encode(now)
	if err != nil {
		return err
	}
	if tag != etag(body) {
		return ErrConflict
	}
	return nil
}

// etag names a representation.
func etag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// answer writes the result.
func (a *API) answer(w http.ResponseWriter, r *http.Request, c *call, out any) {
	if c.op.out.NumField() == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	body, err := encode(out)
	if err != nil {
		a.deps.Log.ErrorContext(r.Context(), "encode answer", slog.String("operation", c.op.id), slog.Any("error", err))
		problem(http.StatusInternalServerError, codeInternal, "").write(w)
		return
	}
	if tagged(c.op) {
		w.Header()["Etag"] = []string{etag(body)}
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}

// tagged reports operations whose answer is one thing that others change.
func tagged(o *operation) bool {
	return o.current != nil || strings.HasSuffix(o.id, ".get") && strings.Contains(o.path, "{")
}

func words(roles []Role) string {
	out := make([]string, len(roles))
	for i, r := range roles {
		out[i] = string(r)
	}
	return strings.Join(out, ", ")
}
