package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/wire"
)

// lifetime refuses tokens that live longer than an hour, or than the configuration says for their issuer:
// whoever steals one can use it for as long.
// Control IAM-03, first part; CIS controls for MCP (3600 seconds). Phase Connect, after IAM-05.
type lifetime struct {
	limits map[string]time.Duration // by issuer
	now    func() time.Time
	ask    asker
}

var _ warder.Interceptor = (*lifetime)(nil)

func newLifetime(cfg Config, deps Deps, ask asker) *lifetime {
	l := &lifetime{limits: map[string]time.Duration{}, now: deps.Now, ask: ask}
	for _, is := range cfg.accepted() {
		l.limits[is.URL] = is.MaxLifetime
		if is.MaxLifetime == 0 {
			l.limits[is.URL] = defaultLifetime
		}
	}
	return l
}

// Control returns IAM-03.
func (*lifetime) Control() warder.ControlID { return "IAM-03" }

// Intercept compares exp - iat with the limit; without iat, what is left of the token. A certificate that is
// the credential itself has no token whose life could be judged.
func (l *lifetime) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	p := x.Principal
	if p == nil || x.Door == warder.DoorStdio || len(x.Conn.Header["Authorization"]) == 0 {
		return warder.Continue(), nil
	}
	from := p.IssuedAt
	if from.IsZero() {
		from = l.now()
	}
	if life := p.NotAfter.Sub(from); p.NotAfter.IsZero() || life > l.limits[p.Issuer] {
		return l.ask.refuse(x, warder.CodeUnauthenticated, "invalid_token", "token_lifetime",
			fmt.Sprintf("token lives %v, at most %v", life, l.limits[p.Issuer])), nil
	}
	return warder.Continue(), nil
}

// toolScopes holds a token with scopes such as "tool:files/read_file" to those tools, and to the bounds on
// arguments that the scopes state:
//
//	tool:NAME                                   this tool, of whatever server the token is for
//	tool:SERVER/NAME                            this tool of this server; "*" for NAME: every tool of it
//	tool:files/read?/path^=/srv/&/limit<=100    with these arguments only
//
// A bound is a JSON pointer into the arguments, an operator and a value, percent-encoded where needed: "="
// equals a JSON value, or else a text; "^=" begins with; "<=" and ">=" compare numbers. A value that is not
// there breaks its bound. Several scopes are alternatives.
// Control IAM-03, second part. Phase Request, on the final arguments.
type toolScopes struct{ ask asker }

var _ warder.Interceptor = (*toolScopes)(nil)

// newToolScopes returns the part of IAM-03 that sees messages.
func newToolScopes(cfg Config) warder.Interceptor { return &toolScopes{ask: asker{cfg: cfg}} }

// toolScope begins the scopes that narrow a token to tools.
const toolScope = "tool:"

// Control returns IAM-03.
func (*toolScopes) Control() warder.ControlID { return "IAM-03" }

// Intercept judges calls of tools, and refuses what else reads or acts: a token for tools is for nothing
// else. Lists pass; what they show is for the access layer.
func (t *toolScopes) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Principal == nil || x.Request == nil || !slices.ContainsFunc(x.Principal.Scopes, isToolScope) {
		return warder.Continue(), nil
	}
	x = judged(x)
	switch kind, _ := actsOn(x.Request); kind {
	case onTool:
		return t.call(x), nil
	case onNothing:
		return warder.Continue(), nil
	default:
		return t.refuse(x, "scope_tools_only", "the token is for tools only", ""), nil
	}
}

func isToolScope(s string) bool { return strings.HasPrefix(s, toolScope) }

// call looks for a scope that covers the call.
func (t *toolScopes) call(x *warder.Exchange) warder.Decision {
	server, name := serverName(x), x.Target()
	if x.Tool != nil {
		server, name = x.Tool.Server, x.Tool.Name
	}
	args := wire.At(x.Request, x.Request.Params.Get("arguments"))
	reason, detail := warder.Reason("scope_tool"), "no scope of the token names this tool"
	for _, s := range x.Principal.Scopes {
		if !isToolScope(s) {
			continue
		}
		scope, err := parseToolScope(s)
		if err != nil {
			return t.refuse(x, "scope_malformed", err.Error(), "")
		}
		if !scope.names(server, name) {
			continue
		}
		broken := rar.CheckBounds(scope.bounds, args)
		if broken == nil {
			return warder.Continue()
		}
		reason, detail = "scope_argument", broken.String()
	}
	return t.refuse(x, reason, detail, toolScope+server+"/"+name)
}

// refuse says which scope the call needs (RFC 6750 section 3.1).
func (t *toolScopes) refuse(x *warder.Exchange, reason warder.Reason, detail, scope string) warder.Decision {
	d := t.ask.refuse(x, warder.CodeInsufficientScope, "insufficient_scope", reason, detail)
	d.Ask.Scopes = nil
	if scope != "" && !strings.ContainsAny(scope, " \"\\") {
		d.Ask.Scopes = []string{scope}
	}
	return d
}

// A parsedScope is one scope for tools.
type parsedScope struct {
	server string // empty: any
	tool   string // "*": any
	bounds []warder.Bound
}

func (s *parsedScope) names(server, tool string) bool {
	return (s.server == "" || s.server == server) && (s.tool == tool || s.tool == "*")
}

// maxScopeBounds limits the bounds of one scope.
const maxScopeBounds = 32

// parseToolScope reads a scope. One that cannot be read refuses every call: it was meant to narrow.
func parseToolScope(s string) (*parsedScope, error) {
	who, conditions, bounded := strings.Cut(s[len(toolScope):], "?")
	out := &parsedScope{}
	server, tool, both := strings.Cut(who, "/")
	if !both {
		server, tool = "", server
	}
	var err1, err2 error
	out.server, err1 = url.PathUnescape(server)
	out.tool, err2 = url.PathUnescape(tool)
	if err1 != nil || err2 != nil || out.tool == "" || both && out.server == "" || out.server == "" && out.tool == "*" {
		return nil, fmt.Errorf("scope %.100q names no tool", s)
	}
	if !bounded {
		return out, nil
	}
	for text := range strings.SplitSeq(conditions, "&") {
		b, err := parseBound(text)
		if err != nil || len(out.bounds) == maxScopeBounds {
			return nil, fmt.Errorf("scope %.100q: bound %.100q cannot be read", s, text)
		}
		out.bounds = append(out.bounds, b)
	}
	return out, nil
}

// parseBound reads pointer, operator and value.
func parseBound(text string) (warder.Bound, error) {
	at := strings.IndexByte(text, '=')
	if at < 1 || text[0] != '/' {
		return warder.Bound{}, strconv.ErrSyntax
	}
	pointer, op := text[:at], byte('=')
	if last := text[at-1]; last == '^' || last == '<' || last == '>' {
		pointer, op = text[:at-1], last
	}
	pointer, err1 := url.PathUnescape(pointer)
	value, err2 := url.PathUnescape(text[at+1:])
	if err1 != nil || err2 != nil || value == "" {
		return warder.Bound{}, strconv.ErrSyntax
	}
	b := warder.Bound{Pointer: pointer}
	switch op {
	case '^':
		b.Prefix = value
		return b, nil
	case '<', '>':
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || n != n || n-n != 0 { // neither NaN nor infinite
			return warder.Bound{}, strconv.ErrSyntax
		}
		if op == '<' {
			b.Max = &n
		} else {
			b.Min = &n
		}
		return b, nil
	default:
		if b.Equals = []byte(value); json.Valid(b.Equals) {
			return b, nil
		}
		var err error
		b.Equals, err = json.Marshal(value)
		return b, err
	}
}
