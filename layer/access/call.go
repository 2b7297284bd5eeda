package access

import (
	"slices"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// callsTool reports whether the exchange is a call of a tool; grants, purposes and approvals are about
// those.
func callsTool(x *warder.Exchange) bool {
	return x.Request != nil && x.Request.IsCall() && x.Request.Method == wire.MethodToolsCall
}

// effectOf is the effect of the tool called; unknown without an approved definition.
func effectOf(x *warder.Exchange) warder.Effect {
	if x.Tool == nil {
		return warder.EffectUnknown
	}
	return min(x.Tool.Effect, warder.EffectDestructive)
}

func serverOf(x *warder.Exchange) string {
	if x.Server == nil {
		return ""
	}
	return x.Server.Name
}

// require adds an obligation.
func require(x *warder.Exchange, o warder.Obligation) {
	x.Obligations = append(slices.Clip(x.Obligations), o)
}
