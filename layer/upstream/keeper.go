package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
)

// A Server is one server of the configuration, as this layer needs it.
type Server struct {
	Name         string
	URL          string // Streamable HTTP or event-stream endpoint; empty for a child process
	AllowPrivate bool   // its hosts may have private addresses
	Credentials  Credentials
}

// Secrets fetches secrets. *secret.Keeper is one.
type Secrets interface {
	Handle(ref secret.Ref) (*secret.Handle, error)
}

// Deps is what the layer needs from outside. State, Box and Secrets are required.
type Deps struct {
	Base    string // public address without trailing slash; the pages are below BASE/oauth/. That of the login pages: on plain http their cookies reach nothing else
	Servers []Server
	State   state.Store
	Box     *seal.Box
	Secrets Secrets

	// Mint signs a short assertion about a caller for one audience: the issuer that shall exchange it. It
	// never holds anything of the caller's own token. Nil: servers with exchange need a subject.
	Mint func(ctx context.Context, p *warder.Principal, audience string) (string, error)
	// Identity returns the ID token of a caller's login, if they logged in at the identity provider of that
	// issuer, which is the only one it may be shown to. Nil: servers with id_jag need a subject.
	Identity func(ctx context.Context, p *warder.Principal, provider string) (secret.Value, error)
	// Record writes an event of the trail; nil: none is written.
	Record func(ctx context.Context, e warder.Event) error

	Now func() time.Time // nil for time.Now
	Log *slog.Logger     // nil for none
}

// Kinds of documents.
const (
	docToken        = "oauth.token"
	docFlow         = "oauth.flow"
	docAsk          = "oauth.ask"
	docRegistration = "oauth.registration"
	docKey          = "oauth.key"
)

// A Keeper holds the credentials for servers. It is safe for concurrent use.
type Keeper struct {
	cfg     Config
	deps    Deps
	servers map[string]*server
	now     func() time.Time
	log     *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	spare  chan struct{} // renewals beside calls, at one time
}

// maxBeside is how many tokens are renewed beside calls at one time.
const maxBeside = 16

// Open returns a keeper. It must be closed.
func Open(cfg Config, deps Deps) (*Keeper, error) {
	if deps.State == nil || deps.Box == nil || deps.Secrets == nil {
		return nil, errors.New("upstream: state, box and secrets are required")
	}
	k := &Keeper{cfg: cfg, deps: deps, servers: map[string]*server{}, now: deps.Now, log: deps.Log, spare: make(chan struct{}, maxBeside)}
	if k.now == nil {
		k.now = time.Now
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if k.cfg.ClientID == "" && strings.HasPrefix(deps.Base, "https://") {
		k.cfg.ClientID = deps.Base + pathDocument
	}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	for i := range deps.Servers {
		cfg := &deps.Servers[i]
		err := cfg.Credentials.Validate()
		if err == nil && cfg.Credentials.Kind() != "" {
			k.servers[cfg.Name], err = k.open(cfg)
		}
		if err != nil {
			k.cancel()
			return nil, fmt.Errorf("server %s: %w", cfg.Name, err)
		}
	}
	k.work.Go(k.follow)
	return k, nil
}

// Close ends what runs beside the calls and waits for it.
func (k *Keeper) Close() error {
	k.cancel()
	k.work.Wait()
	return nil
}

// New returns the layer of a keeper.
func New(k *Keeper) (warder.Layer, error) {
	if k == nil {
		return warder.Layer{}, errors.New("upstream: no keeper")
	}
	return warder.Layer{Name: "upstream", Request: []warder.Interceptor{secrets{k}, attach{k}}}, nil
}

// base is the public address.
func (k *Keeper) base() (*url.URL, error) {
	u, err := url.Parse(k.deps.Base)
	if err != nil || u.Host == "" {
		return nil, errors.New("oauth needs identity.base_url, the public address of Warder")
	}
	return u, nil
}

// serverOf returns the server of an exchange, nil if it is shown nothing.
func (k *Keeper) serverOf(x *warder.Exchange) *server {
	if x.Server == nil {
		return nil
	}
	return k.servers[x.Server.Name]
}

// beside runs f beside the calls, unless too much does already or the keeper is closed.
func (k *Keeper) beside(f func(ctx context.Context)) bool {
	select {
	case k.spare <- struct{}{}:
	default:
		return false
	}
	if k.ctx.Err() != nil {
		<-k.spare
		return false
	}
	k.work.Go(func() {
		defer func() { <-k.spare }()
		f(k.ctx)
	})
	return true
}

// What became of a credential; the effect of an event.
const (
	obtained = "obtained"
	renewed  = "renewed"
	refused  = "refused"
	removed  = "removed"
)

// tell writes an event of type credential. It holds names and reasons, never a value.
func (k *Keeper) tell(ctx context.Context, control warder.ControlID, s *server, o owner, effect string, reason warder.Reason, detail string) {
	if k.deps.Record == nil {
		return
	}
	e := warder.Event{
		Time: k.now().UTC(), Type: warder.EventCredential, Server: s.name, Effect: effect,
		Control: control, Reason: reason, Detail: detail, Method: s.kind,
	}
	if o != (owner{}) {
		e.Principal = &warder.EventPrincipal{Tenant: o.tenant, Issuer: o.issuer, Subject: o.subject, Client: o.client, Agent: o.agent}
	}
	if err := k.deps.Record(context.WithoutCancel(ctx), e); err != nil {
		k.log.ErrorContext(ctx, "credential event not recorded", slog.String("server", s.name), slog.String("error", err.Error()))
	}
}

// follow watches what other replicas and operators do with tokens, so that a removed one is not used any
// more.
func (k *Keeper) follow() {
	hint := k.deps.State.Watch(k.ctx)
	every := time.NewTicker(5 * time.Second)
	defer every.Stop()
	after, known := int64(0), false
	for {
		if !known {
			seq, err := k.deps.State.Latest(k.ctx)
			if err == nil {
				after, known = seq, true
				k.forgetAll()
			}
		} else {
			after = k.catchUp(after)
		}
		select {
		case <-k.ctx.Done():
			return
		case <-hint:
		case <-every.C:
		}
	}
}

// catchUp reads the changes after a sequence number and returns the last.
func (k *Keeper) catchUp(after int64) int64 {
	const page = 256
	for k.ctx.Err() == nil {
		docs, err := k.deps.State.Changes(k.ctx, after, page)
		if err != nil {
			if k.ctx.Err() == nil {
				k.log.WarnContext(k.ctx, "changes of credentials not read", slog.String("error", err.Error()))
			}
			return after
		}
		for _, d := range docs {
			after = d.Seq
			if d.Kind == docToken {
				k.changed(d)
			}
		}
		if len(docs) < page {
			break
		}
	}
	return after
}

// changed drops what is remembered of a token that somebody else wrote or removed.
func (k *Keeper) changed(d state.Doc) {
	for _, s := range k.servers {
		if e := s.people.byDoc(d.ID); e != nil {
			if cur := e.cur.Load(); cur != nil && (d.Deleted || cur.version != d.Version) {
				e.cur.CompareAndSwap(cur, nil)
			}
		}
	}
}

func (k *Keeper) forgetAll() {
	for _, s := range k.servers {
		s.people.forget()
	}
}
