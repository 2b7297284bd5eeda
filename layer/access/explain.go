package access

import (
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// An Explanation says why policy decided as it did and what would have changed its mind. It is for
// operators: it names policies and attributes.
type Explanation struct {
	Decision Decision
	Policies []Judgement         // every policy that was asked, in order of its id
	Flips    []Flip              // single changes that turn the decision around
	Needs    []warder.Obligation // what an allowed request still needs; approvals always, as they are given to one call
	Complete bool                // false if the search for changes stopped at its bound
}

// A Judgement is what one policy said.
type Judgement struct {
	ID      string `json:"id"`
	Effect  string `json:"effect"` // "permit" or "forbid"
	Source  string `json:"source"` // file:line:column
	Applies bool   `json:"applies"`
	Error   string `json:"error,omitempty"`
}

// A Flip is one change of one attribute that turns the decision around, or changes what an allowed request
// still needs.
type Flip struct {
	Change   string              `json:"change"` // such as `without group "eng"`
	Allow    bool                `json:"allow"`  // the decision after the change
	Policies []string            `json:"policies"`
	Needs    []warder.Obligation `json:"needs,omitempty"` // what the request still needs after the change
}

// Unmet lists the obligations that the request does not meet: a grant it lacks, a login that is too weak
// or too old, and every approval.
func Unmet(r *Request, obligations []warder.Obligation) []warder.Obligation {
	var out []warder.Obligation
	for _, o := range obligations {
		met := false
		switch o.Kind {
		case warder.ObligationGrant:
			met = r.Context.Grant != nil
		case warder.ObligationACR:
			met = slices.Contains(strings.Fields(o.Value), r.Principal.ACR)
		case warder.ObligationMaxAge:
			age, err := time.ParseDuration(o.Value)
			met = err == nil && r.Context.Now.Sub(r.Principal.AuthTime) <= age
		case warder.ObligationApproval:
		}
		if !met {
			out = append(out, o)
		}
	}
	return out
}
