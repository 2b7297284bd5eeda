package access

import (
	"context"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Visibility is the first of policy's two answers: may this principal see a definition at all. Lists
// are filtered with it, and a call of what is not visible is answered as if it did not exist.
//
// It decides without arguments: a definition is visible if some call of it could be permitted. It
// therefore never hides what may be used, and it may show what is refused for the arguments given.
type Visibility struct {
	authorizer Authorizer
	now        func() time.Time
}

// NewVisibility returns the first decision point. It uses Authorizer and Now of deps.
func NewVisibility(deps Deps) (*Visibility, error) {
	if err := deps.fill(); err != nil {
		return nil, err
	}
	return &Visibility{authorizer: deps.Authorizer, now: deps.Now}, nil
}

// Visible reports whether the exchange's principal may see the definition. x.Server must be the
// server of the definition. An error means no.
func (v *Visibility) Visible(ctx context.Context, x *warder.Exchange, tool *warder.Tool) (bool, error) {
	if x.Principal == nil || x.Server == nil || tool == nil || tool.Server != x.Server.Name {
		return false, nil
	}
	r := Request{
		Principal: x.Principal,
		Context:   Context{Door: x.Door, Revision: x.Revision, Endpoint: x.Endpoint, Now: v.now(), Labels: x.Labels},
	}
	r.Resource = Resource{Server: x.Server, Name: tool.Name, Tool: tool}
	switch tool.Kind {
	case "tool":
		r.Action, r.Resource.Kind = wire.MethodToolsCall, KindTool
	case "prompt":
		r.Action, r.Resource.Kind = wire.MethodPromptsGet, KindPrompt
	case "resource":
		r.Action, r.Resource.Kind = wire.MethodResourcesRead, KindResource
	case "template":
		r.Action, r.Resource.Kind = wire.MethodResourcesRead, KindTemplate
	case "instructions":
		r.Action, r.Resource = wire.MethodInitialize, Resource{Kind: KindServer, Server: x.Server, Name: x.Server.Name}
	default:
		return false, nil
	}
	yes, err := v.authorizer.Possible(ctx, &r)
	return yes && err == nil, err
}
