package login

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/page"
)

// Errors of [Approvals]. Any other error means that nobody knows.
var (
	// ErrNoHold means that no call waits under that id.
	ErrNoHold = errors.New("no call waits under that id")
	// ErrDecided means that somebody has decided already, or that the call does not wait any more.
	ErrDecided = errors.New("the call does not wait any more")
	// ErrForbidden means that this person may not decide.
	ErrForbidden = errors.New("this person may not decide")
)

// Pending is a call that waits for a person, as the page shows it. All text may come from attackers.
type Pending struct {
	ID        string
	Requester string // who calls: "issuer|subject"
	Name      string // the same for people; empty: Requester
	Agent     string // agent that acts for the requester; empty: none
	Client    string // OAuth client id; empty: none
	Server    string
	Tool      string
	Method    string // of the protocol, such as tools/call
	Effect    string // what it may change: read, write, destructive, …
	Final     bool   // it cannot be undone
	Arguments []byte // canonical JSON of all parameters
	Cut       bool   // Arguments are not all of it: then nobody can approve here
	Purpose   string // what it is for, as declared
	Why       string // why it waits
	Risk      int    // 0 to 100; the list is in this order
	Digest    string // hex of what the decision is bound to
	Opened    time.Time
	NotAfter  time.Time
	Open      bool // false: it was decided or has ended
	Outcome   string

	Approvers []string // who may decide: "*", "group:NAME" or "issuer|subject"
	Self      bool     // the requester may decide too
	Votes     int      // people who said yes so far
	Needed    int      // people who must say yes
	// ACR and MaxAge are what the approver's login must be; empty and 0: any.
	ACR    []string
	MaxAge time.Duration
}

// Approvals are the calls that wait for a person. Implementations check again who decides, and that the
// call is still the one with this digest.
type Approvals interface {
	// Get returns a call; ErrNoHold if there is none.
	Get(ctx context.Context, id string) (Pending, error)
	// Waiting lists the calls that nobody has decided on yet, at most a few hundred.
	Waiting(ctx context.Context) ([]Pending, error)
	// Decide approves or denies exactly the call with this digest. Errors are ErrNoHold, ErrDecided and
	// ErrForbidden.
	Decide(ctx context.Context, id, digest string, by *issuer.User, approve bool, note string) error
}

// may reports whether a person may decide on a call. "*" means those whom the configuration of the pages
// names, not everybody who can log in.
func (s *Service) may(u *issuer.User, p *Pending) bool {
	key := s.userKey(u)
	if key == p.Requester {
		return p.Self
	}
	return slices.ContainsFunc(p.Approvers, func(rule string) bool {
		if group, ok := strings.CutPrefix(rule, "group:"); ok {
			return slices.Contains(u.Groups, group)
		}
		return rule == key || rule == "*" && s.approver(u)
	})
}

// approver reports whether the configuration names a person as an approver.
func (s *Service) approver(u *issuer.User) bool {
	return slices.ContainsFunc(s.cfg.Approvers, func(rule string) bool {
		kind, name, _ := strings.Cut(rule, ":")
		return kind == "user" && name == u.Subject || kind == "group" && slices.Contains(u.Groups, name)
	})
}

// sees reports whether a person may look at a call: whoever may decide, and whoever asked.
func (s *Service) sees(u *issuer.User, p *Pending) bool {
	return s.userKey(u) == p.Requester || s.may(u, p)
}

// An approvePage is what the template "approve" shows.
type approvePage struct {
	Pending
	Pretty string // the parameters, indented
	Left   time.Duration
	May    bool
	Own    bool // the person is the requester
	Most   int  // characters of Pretty to show
	CSRF   string
	Path   string
}

// getApprovals lists what waits for the person, the riskiest first.
func (s *Service) getApprovals(w http.ResponseWriter, r *http.Request) {
	u, ok := s.Authenticate(w, r, issuer.Need{Back: s.path + "/approve"})
	if !ok {
		return
	}
	ss := s.person(w, r)
	if ss == nil {
		return
	}
	all, err := s.deps.Approvals.Waiting(r.Context())
	if err != nil {
		s.broken(w, r, "approvals", err)
		return
	}
	var mine []approvePage
	for i := range all {
		if p := &all[i]; p.Open && s.sees(u, p) {
			mine = append(mine, approvePage{Pending: *p, Left: p.NotAfter.Sub(s.deps.Now()), May: s.may(u, p), Path: s.path})
		}
	}
	slices.SortStableFunc(mine, func(a, b approvePage) int {
		if a.Risk != b.Risk {
			return b.Risk - a.Risk
		}
		return a.NotAfter.Compare(b.NotAfter)
	})
	v := s.view(w, r, ss, "approvals", "Waiting for a decision", mine)
	v.Wide = true
	s.site.Show(w, http.StatusOK, v)
}

// getApproval shows one call in full.
func (s *Service) getApproval(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	back := s.path + "/approve/" + id
	if !ownPath(back) || len(id) > 128 {
		s.notFound(w, r)
		return
	}
	u, ok := s.Authenticate(w, r, issuer.Need{Back: back})
	if !ok {
		return
	}
	p, ok := s.pending(w, r, u, id)
	if !ok {
		return
	}
	may := s.may(u, p)
	if may && p.Open { // whoever will decide proves it before reading, not between reading and deciding
		if u, ok = s.Authenticate(w, r, s.decider(p, back)); !ok {
			return
		}
	}
	ss := s.person(w, r)
	if ss == nil {
		return
	}
	data := approvePage{
		Pending: *p, Pretty: pretty(p.Arguments), Most: maxShown, Left: p.NotAfter.Sub(s.deps.Now()), May: may,
		Own: s.userKey(u) == p.Requester, CSRF: s.csrf(w, r, s.path+"/approve"), Path: s.path,
	}
	title := "Approve this call?"
	if !may || !p.Open {
		title = "A call that waits"
	}
	v := s.view(w, r, ss, "approve", title, &data)
	v.Wide = true
	s.site.Show(w, http.StatusOK, v)
}

// decider is what the login of whoever decides must be.
func (s *Service) decider(p *Pending, back string) issuer.Need {
	n := issuer.Need{ACR: p.ACR, Back: back}
	if len(n.ACR) == 0 {
		n.ACR = s.cfg.Approval.ACR
	}
	if age := cmp.Or(p.MaxAge, s.cfg.Approval.MaxAge); age > 0 {
		n.MaxAge = &age
	}
	return n
}

// pending reads a call that the person may see. One that they may not see is not there.
func (s *Service) pending(w http.ResponseWriter, r *http.Request, u *issuer.User, id string) (*Pending, bool) {
	p, err := s.deps.Approvals.Get(r.Context(), id)
	if err != nil && !errors.Is(err, ErrNoHold) {
		s.broken(w, r, "approval", err)
		return nil, false
	}
	if err != nil || !s.sees(u, &p) {
		s.refused(r, u, "approval_unknown", "asked for a call that is not there or not theirs")
		s.problem(w, http.StatusNotFound, "approval_unknown", "No such call waits for you", "It may be another person's, or have ended.")
		return nil, false
	}
	p.Cut = p.Cut || len(p.Arguments) == 0 || utf8.RuneCountInString(pretty(p.Arguments)) > maxShown
	return &p, true
}

// maxShown is how many characters of parameters a page shows; nobody approves what is longer.
const maxShown = 60_000

// postApproval decides.
func (s *Service) postApproval(w http.ResponseWriter, r *http.Request) {
	ss := s.person(w, r)
	if ss == nil {
		return
	}
	id, u := r.PostForm.Get("id"), &ss.User
	p, ok := s.pending(w, r, u, id)
	if !ok {
		return
	}
	approve := r.PostForm.Get("decision") == "approve"
	if !approve && r.PostForm.Get("decision") != "deny" {
		s.problem(w, http.StatusBadRequest, "form_malformed", "That form cannot be read", "Choose one of the buttons of the page.")
		return
	}
	if !s.may(u, p) {
		s.refused(r, u, "approval_forbidden", "may not decide on call "+cut(id, 64))
		s.problem(w, http.StatusForbidden, "approval_forbidden", "You may not decide on this call", "Somebody else must.")
		return
	}
	back := s.path + "/approve/" + id
	n := s.needOf(s.decider(p, back))
	if lack := s.lacks(ss, &n); lack != "" {
		s.showLogin(w, r, n, ss, lack)
		return
	}
	digest := r.PostForm.Get("digest")
	if subtle.ConstantTimeCompare([]byte(digest), []byte(p.Digest)) != 1 || approve && p.Cut {
		s.refused(r, u, "approval_changed", "the call is not the one that was shown")
		s.problem(w, http.StatusConflict, "approval_changed", "This is not the call you were shown", "Open the page again and read it once more.")
		return
	}
	s.decide(w, r, u, p, approve)
}

func (s *Service) decide(w http.ResponseWriter, r *http.Request, u *issuer.User, p *Pending, approve bool) {
	switch err := s.deps.Approvals.Decide(r.Context(), p.ID, p.Digest, u, approve, cut(r.PostForm.Get("note"), 500)); {
	case errors.Is(err, ErrNoHold), errors.Is(err, ErrDecided):
		s.refused(r, u, "approval_over", "the call "+cut(p.ID, 64)+" does not wait any more")
		s.problem(w, http.StatusConflict, "approval_over", "This call does not wait any more", "Somebody decided on it, or its time was over.")
	case errors.Is(err, ErrForbidden):
		s.refused(r, u, "approval_forbidden", "may not decide on call "+cut(p.ID, 64))
		s.problem(w, http.StatusForbidden, "approval_forbidden", "You may not decide on this call", "Somebody else must.")
	case err != nil:
		s.broken(w, r, "decide", err)
	default:
		title, text := "Denied", "The call will not be made."
		if approve {
			title, text = "Approved", "Exactly this call may now be made, once. Go back to where you came from."
		}
		s.site.Show(w, http.StatusOK, page.View{Template: "message", Title: title, Data: struct{ Text, Back string }{text, s.path + "/approve"}})
	}
}
