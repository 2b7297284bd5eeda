package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/catalog"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/layer/record"
)

func explainCommand() *cobra.Command {
	var groups, scopes []string
	cmd := &cobra.Command{
		Use:   "explain EXCHANGE",
		Short: "Explain how an exchange was decided, by which rules, and what would change it",
		Long: "Explain reads the audit trail: what was asked, which controls ran and what each said. It then puts the\n" +
			"question to the policies of the configuration once more, with the place, posture, risk, purpose, grant,\n" +
			"agent and login that policy saw then, names every policy that had a say, and searches for single\n" +
			"changes that turn the decision around or change what the call still needs. With --groups and --scopes\n" +
			"it judges as if the principal had those. Arguments are known only when record.capture is on.",
		Example: "  warder explain 01KATZ3V9FQ2M8\n  warder explain 01KATZ3V9FQ2M8 --groups people",
		GroupID: "look",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			at, err := locate(cmd)
			if err != nil {
				return err
			}
			trail, err := openTrail(at)
			if err != nil {
				return err
			}
			events, err := trail.Find(args[0])
			if errors.Is(err, record.ErrNotFound) {
				return fail(exitFailed, "list exchanges with: warder audit show", err)
			}
			if err != nil {
				return damaged(err)
			}
			e := finished(events, args[0])
			x := explained{Event: e, Steps: e.Trail, Decisions: e.Decisions, Remedy: remedy(e)}
			if x.Policy, x.PolicyNote, err = askAgain(cmd.Context(), at, trail, e, groups, scopes); err != nil {
				return err
			}
			if p.json {
				return p.writeJSON(x)
			}
			return x.print(p)
		},
	}
	stateFlags(cmd)
	principalFlags(cmd, &groups, &scopes)
	return cmd
}

// An explained exchange is what explain prints.
type explained struct {
	Event      *warder.Event       `json:"event"`
	Steps      []warder.Step       `json:"steps,omitempty"`
	Decisions  []warder.Decision   `json:"decisions,omitempty"`
	Policy     *access.Explanation `json:"policy,omitempty"`
	PolicyNote string              `json:"policy_note,omitempty"`
	Remedy     string              `json:"remedy,omitempty"`
}

// finished is the event of the exchange itself: the last of type exchange, else the last.
func finished(events []warder.Event, id string) *warder.Event {
	best := &events[len(events)-1]
	for i := range events {
		if events[i].Exchange == id && events[i].Type == warder.EventExchange {
			best = &events[i]
		}
	}
	return best
}

// askAgain puts the question to the policies in force, if there is a configuration and a question.
func askAgain(ctx context.Context, at located, trail *record.Reader, e *warder.Event, groups, scopes []string) (*access.Explanation, string, error) {
	if e.Principal == nil || e.Method == "" {
		return nil, "the exchange ended before policy was asked", nil
	}
	reg, done, err := openRegistry(ctx, at.data, nil)
	if err != nil {
		return nil, "", err
	}
	body, err := bodyOf(trail, e.Exchange)
	if err != nil {
		return nil, "", errors.Join(err, done())
	}
	j, err := newJudge(at.cfg, reg, groups, scopes)
	if err != nil {
		return nil, "", errors.Join(err, done())
	}
	why, err := j.ask(ctx, e, body)
	notes := []string{}
	if body == nil {
		notes = append(notes, "asked without arguments: they were not recorded")
	}
	if missing := j.witness.incomplete(); missing != "" {
		notes = append(notes, missing)
	}
	if err := errors.Join(err, done()); err != nil {
		return nil, "", fmt.Errorf("ask policy: %w", err)
	}
	return &why, strings.Join(notes, "; "), nil
}

func (x *explained) print(p *printer) error {
	e := x.Event
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s%s\n", name+":", oneLine(value))
		}
	}
	line("Exchange", e.Exchange)
	line("Time", e.Time.UTC().Format(time.RFC3339Nano))
	if e.Principal != nil {
		line("Who", strings.TrimSpace(e.Principal.Subject+" of "+e.Principal.Issuer))
		line("Client", e.Principal.Client)
	}
	line("Door", strings.TrimSpace(string(e.Door)+" "+string(e.Revision)))
	line("Asked", strings.TrimSpace(e.Method+" "+e.Target))
	line("Of", e.Server)
	line("Definition", e.Digest)
	line("Effect", e.Effect)
	line("Config", e.ConfigDigest)
	line("With", circumstancesText(e))
	line("Outcome", verdict{string(e.Outcome), string(e.Control), string(e.Code), string(e.Reason)}.String())
	line("Detail", e.Detail)
	if e.Control != "" {
		if c, err := catalog.Load(); err == nil {
			if k, ok := c.Control(e.Control); ok {
				line("Control", k.Title+": docs/controls/"+string(k.ID)+".md")
			}
		}
	}
	line("To change", x.Remedy)
	if err := p.text("%s", strings.TrimRight(b.String(), "\n")); err != nil {
		return err
	}
	return errors.Join(x.printSteps(p), x.printPolicy(p))
}

// circumstancesText says what policy was told besides caller and message.
func circumstancesText(e *warder.Event) string {
	var words []string
	add := func(name, value string) {
		if value != "" {
			words = append(words, name+" "+value)
		}
	}
	if p := e.Principal; p != nil {
		add("transport", p.Transport)
		if p.Bound {
			words = append(words, "bound to a key")
		}
		add("acr", p.ACR)
		if !p.AuthTime.IsZero() {
			add("logged in", p.AuthTime.UTC().Format(time.RFC3339))
		}
	}
	if c := e.Circumstances; c != nil {
		add("zone", c.Zone)
		add("country", c.Country)
		add("posture", c.Posture)
		add("purpose", c.Purpose)
		if c.Risk > 0 {
			add("risk", strconv.Itoa(c.Risk))
		}
		if c.Grant != nil {
			add("grant", c.Grant.ID)
		}
		if c.Agent != nil {
			add("agent", c.Agent.Name)
		}
	}
	add("approval", e.Approval)
	return strings.Join(words, ", ")
}

// needsText lists obligations, such as "approval group:ops".
func needsText(list []warder.Obligation) string {
	words := make([]string, len(list))
	for i, o := range list {
		words[i] = strings.TrimSpace(string(o.Kind) + " " + o.Value)
	}
	return strings.Join(words, ", ")
}

func (x *explained) printSteps(p *printer) error {
	if len(x.Steps) == 0 {
		return nil
	}
	g := &grid{header: []string{"PHASE", "CONTROL", "VERDICT", "TOOK", "SAID"}}
	for _, s := range x.Steps {
		said := ""
		for i := range x.Decisions {
			if d := &x.Decisions[i]; d.Control == s.Control && d.Verdict == s.Verdict {
				said = strings.TrimSpace(string(d.Reason) + " " + d.Detail)
			}
		}
		g.add(s.Phase.String(), string(s.Control), s.Verdict.String(), s.Took.String(), said)
	}
	return errors.Join(p.text(""), p.table(g))
}

func (x *explained) printPolicy(p *printer) error {
	if x.Policy == nil {
		return p.text("\nPolicy: %s", orDash(lines(x.PolicyNote)))
	}
	word := "denies (" + string(x.Policy.Decision.Reason) + ")"
	if x.Policy.Decision.Allow {
		word = "allows"
	}
	if err := p.text("\nAsked again, policy %s", word+sentence(x.PolicyNote)); err != nil {
		return err
	}
	if len(x.Policy.Policies) > 0 {
		g := &grid{header: []string{"POLICY", "EFFECT", "APPLIES", "SOURCE", "ERROR"}}
		for _, j := range x.Policy.Policies {
			g.add(j.ID, j.Effect, map[bool]string{true: "yes", false: "no"}[j.Applies], j.Source, orDash(j.Error))
		}
		if err := p.table(g); err != nil {
			return err
		}
	}
	if len(x.Policy.Needs) > 0 {
		if err := p.text("Such a call needs besides: %s", oneLine(needsText(x.Policy.Needs))); err != nil {
			return err
		}
	}
	if len(x.Policy.Flips) == 0 {
		return p.text("No single change of an attribute turns this around.")
	}
	g := &grid{header: []string{"WITH THIS CHANGE", "POLICY", "BY", "NEEDS"}}
	for _, f := range x.Policy.Flips {
		g.add(f.Change, map[bool]string{true: "allows", false: "denies"}[f.Allow], orDash(strings.Join(f.Policies, ", ")), orDash(needsText(f.Needs)))
	}
	if err := p.table(g); err != nil || x.Policy.Complete {
		return err
	}
	return p.text("The search stopped at its bound; there may be more.")
}

// sentence ends the one before, and adds a note if there is one.
func sentence(note string) string {
	if note == "" {
		return "."
	}
	return ". (" + note + ")"
}

// remedy says what would let a refused exchange through, where one thing would.
func remedy(e *warder.Event) string {
	if e.Outcome != warder.OutcomeRefused {
		return ""
	}
	switch e.Code {
	case warder.CodeQuarantined:
		return fmt.Sprintf("look at the definition (warder tools show %s/%s), then approve it", e.Server, e.Target)
	case warder.CodeUnauthenticated:
		return "bring a token whose audience is this endpoint, of a configured issuer (warder token, for the local one)"
	case warder.CodeInsufficientScope:
		return "bring a token with the scopes that the challenge names"
	case warder.CodeRateLimited:
		return "wait, or raise gateway.rates"
	case warder.CodeTooLarge:
		return "send less, or raise limits.request_bytes or input.max_bytes"
	case warder.CodeForbiddenOrigin:
		return "add the host or origin to network.allowed_hosts or network.allowed_origins"
	case warder.CodeUnsupported:
		return "speak a newer revision, or lower limits.min_revision"
	case warder.CodeDenied, warder.CodeNotFound:
		return "a policy that permits it, see below; or a definition that exists and is approved"
	case warder.CodeInvalidParams, warder.CodeInvalidRequest, warder.CodeMalformed, warder.CodeHeaderMismatch:
		return "another message: this one breaks the rule named above"
	default:
		return ""
	}
}
