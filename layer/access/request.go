package access

import (
	"context"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// An Authorizer is a policy decision point. It is safe for concurrent use.
type Authorizer interface {
	// Authorize decides on one message. An error means that it could not decide, which denies.
	Authorize(ctx context.Context, r *Request) (Decision, error)
	// Possible reports whether a request that differs from r in nothing but arguments and findings
	// could be permitted. It never says no to what Authorize would permit; it may say yes to more.
	Possible(ctx context.Context, r *Request) (bool, error)
}

// A Request is one question to policy, in the words of attribute-based access control.
type Request struct {
	Principal *warder.Principal // who asks; never changed once made
	Action    string            // method, such as "tools/call"
	Resource  Resource          // what it acts on
	Context   Context           // circumstances
}

// A ResourceKind is the kind of thing an action acts on.
type ResourceKind string

// The kinds of resources.
const (
	KindEndpoint ResourceKind = "endpoint" // a group as a whole, before a server is chosen
	KindServer   ResourceKind = "server"
	KindTool     ResourceKind = "tool"
	KindPrompt   ResourceKind = "prompt"
	KindResource ResourceKind = "resource"
	KindTemplate ResourceKind = "template"
)

// A Resource is what an action acts on.
type Resource struct {
	Kind   ResourceKind
	Server *warder.Server // nil only for KindEndpoint
	Name   string         // tool or prompt name, URI, endpoint or server name
	Tool   *warder.Tool   // the approved definition; nil if there is none
}

// A Context is the circumstances of a request.
type Context struct {
	Door      warder.Door
	Revision  warder.Revision
	Endpoint  string
	Now       time.Time
	Labels    []string          // data labels met so far
	Decisions []warder.Decision // decisions so far; their findings count
	Arguments wire.Value        // arguments object; absent if the action has none

	// Surroundings (control JIT-02). What is empty or nil is not known: a policy that names it fails, which
	// denies, but for Purpose, Grant and Agent, whose absence is an answer.
	Zone    string        // place in the network the caller is at
	Country string        // country of the caller's address
	Hours   []string      // configured times of the week that it is now
	Hour    int           // local hour, 0 to 23
	Weekday string        // local day, "mon" to "sun"; empty where the surroundings were not looked at
	Posture string        // "compliant", "not_compliant", "stale"
	Risk    int           // 0 to 100
	Trust   int           // trust score of the tool, 0 to 100; 0 if unknown
	Purpose string        // declared purpose
	Grant   *warder.Grant // what allows the call for a while
	Agent   *warder.Agent // the registered agent that acts
}

// A Decision is what policy says.
type Decision struct {
	Allow    bool
	Reason   warder.Reason // why not: no_permit, forbidden, policy_error, arguments_unrepresentable
	Detail   string        // for operators
	Policies []string      // ids of the policies that decided
	Scopes   []string      // every scope the principal would need, if scopes are all that is missing

	// Obligations are what the matching permits ask for besides, all of them together: a further permit
	// only tightens.
	Obligations []warder.Obligation
	// Granted reports that a policy that concerns the request looks at the grant.
	Granted bool
}

// streamAction is the action of a connection that only listens: no message asks for anything.
const streamAction = "stream"

// requestOf asks policy about the message of an exchange. A client's answer to a server's question is
// asked about as the exchange in which the server put the question.
func requestOf(x *warder.Exchange, now time.Time) *Request {
	subject := x
	for subject.Request != nil && subject.Request.IsAnswer() && subject.Parent != nil {
		subject = subject.Parent
	}
	r := &Request{
		Principal: x.Principal,
		Action:    streamAction,
		Context: Context{
			Door: x.Door, Revision: x.Revision, Endpoint: x.Endpoint, Now: now,
			Labels: x.Labels, Decisions: x.Decisions,
		},
	}
	m := subject.Request
	if m != nil && !m.IsAnswer() {
		r.Action = m.Method
	}
	r.Resource = resourceOf(subject, m)
	if m != nil && (m.Method == wire.MethodToolsCall || m.Method == wire.MethodPromptsGet) {
		r.Context.Arguments = wire.At(m, m.Params.Get("arguments"))
		if !r.Context.Arguments.Exists() {
			r.Context.Arguments = wire.Parse(emptyObject())
		}
	}
	return r
}

func emptyObject() []byte { return []byte("{}") }

// resourceOf names what the message of an exchange acts on.
func resourceOf(x *warder.Exchange, m *warder.Message) Resource {
	if x.Server == nil {
		return Resource{Kind: KindEndpoint, Name: x.Endpoint}
	}
	r := Resource{Kind: KindServer, Server: x.Server, Name: x.Server.Name}
	if m == nil {
		return r
	}
	switch m.Method {
	case wire.MethodToolsCall:
		r.Kind, r.Name, r.Tool = KindTool, m.Target, x.Tool
	case wire.MethodPromptsGet:
		r.Kind, r.Name, r.Tool = KindPrompt, m.Target, x.Tool
	case wire.MethodResourcesRead, wire.MethodResourcesSubscribe, wire.MethodResourcesUnsubscribe:
		r.Kind, r.Name = KindResource, m.Target
	case wire.MethodComplete:
		r.Kind, r.Name = completionTarget(m)
	}
	return r
}

// completionTarget reads params.ref of completion/complete: a prompt by name or a resource template
// by URI.
func completionTarget(m *warder.Message) (ResourceKind, string) {
	ref := wire.At(m, m.Params.Get("ref"))
	if ref.Get("type").Equals("ref/prompt") {
		name, _ := ref.Get("name").Text()
		return KindPrompt, name
	}
	uri, _ := ref.Get("uri").Text()
	return KindTemplate, uri
}
