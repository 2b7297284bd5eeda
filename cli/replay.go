package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/layer/record"
)

func replayCommand() *cobra.Command {
	var groups, scopes []string
	var with, since string
	var all bool
	cmd := &cobra.Command{
		Use:   "replay --with NEW.yaml",
		Short: "Judge recorded exchanges by another configuration: what would change?",
		Long: "Replay takes the exchanges whose messages were kept (record.capture), judges each by the layers tools,\n" +
			"input and access of another configuration, and lists those that would end otherwise. Nothing is sent\n" +
			"to a server, and nobody is asked.\n\n" +
			"Of the other configuration come policies, zones, countries, hours, purposes, effects that need a grant or\n" +
			"an approval, and the thresholds of risk. Of the record come the message, its time and the address it\n" +
			"came from, the caller's login, groups and scopes, registered agent, posture, risk, purpose, the grant\n" +
			"that was found, the approval that was used, and what had been revoked: the grants, approvals and\n" +
			"revocations of now have no say. A call that would need an approval nobody gave then counts as refused.\n" +
			"Definitions are those last seen. What other controls refused (transport, tokens, scopes, rates) is not\n" +
			"judged again, but counted. Records of versions that did not keep what policy saw are judged without it\n" +
			"and counted, too.\n\n" +
			"Exit code 5 means that something that was allowed would be refused.",
		Example: "  warder replay --with new.yaml --since 24h",
		GroupID: "look",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			from, err := moment(since, time.Now())
			if err != nil {
				return err
			}
			at, err := locate(cmd)
			if err != nil {
				return err
			}
			next := at.cfg
			if with != "" {
				if next, err = config.Load(with); err != nil {
					return unreadable(err)
				}
			}
			reg, done, err := openRegistry(cmd.Context(), at.data, nil)
			if err != nil {
				return err
			}
			defer func() { _ = done() }() // nothing was written
			j, err := newJudge(next, reg, groups, scopes)
			if err != nil {
				return err
			}
			trail, err := openTrail(at)
			if err != nil {
				return err
			}
			r, err := replay(cmd.Context(), j, trail, from)
			if err != nil {
				return err
			}
			return r.print(p, all)
		},
	}
	stateFlags(cmd)
	principalFlags(cmd, &groups, &scopes)
	cmd.Flags().StringVar(&with, "with", "", "the other configuration (default: the one that recorded)")
	cmd.Flags().StringVar(&since, "since", "", "only exchanges from this moment on, such as 24h")
	cmd.Flags().BoolVar(&all, "all", false, "list also what would stay the same")
	_ = cmd.MarkFlagFilename("with", "yaml", "yml")
	return cmd
}

// A replayed exchange is one line of the result.
type replayed struct {
	Exchange string    `json:"exchange"`
	Time     time.Time `json:"time"`
	Subject  string    `json:"subject,omitempty"`
	Server   string    `json:"server,omitempty"`
	What     string    `json:"what"`
	Was      verdict   `json:"was"`
	Would    verdict   `json:"would"`
	Change   string    `json:"change"`         // same, stricter, looser, other
	Note     string    `json:"note,omitempty"` // what the record does not know
}

// A result is what replay found.
type result struct {
	Judged    int        `json:"judged"`
	Unknown   int        `json:"unknown"`   // exchanges whose message was not kept
	Elsewhere int        `json:"elsewhere"` // exchanges refused by controls that are not asked again
	Older     int        `json:"older"`     // judged without what policy saw, which their records do not know
	Stricter  int        `json:"stricter"`
	Looser    int        `json:"looser"`
	Other     int        `json:"other"`
	Exchanges []replayed `json:"exchanges"`
}

func replay(ctx context.Context, j *judge, trail *record.Reader, since time.Time) (result, error) {
	r := result{Exchanges: []replayed{}}
	for e, err := range trail.Events(record.Filter{Type: warder.EventExchange, Since: since}) {
		if err != nil {
			return r, damaged(err)
		}
		body, err := bodyOf(trail, e.Exchange)
		if err != nil {
			return r, err
		}
		if body == nil {
			r.Unknown++
			continue
		}
		if !j.judges(&e) {
			r.Elsewhere++
			continue
		}
		would, err := j.again(ctx, &e, body)
		if err != nil {
			return r, fmt.Errorf("exchange %s: %w", e.Exchange, err)
		}
		r.add(&e, would, j.witness.incomplete())
	}
	return r, nil
}

func (r *result) add(e *warder.Event, would verdict, note string) {
	was := verdict{string(e.Outcome), string(e.Control), string(e.Code), string(e.Reason)}
	x := replayed{Exchange: e.Exchange, Time: e.Time, Server: e.Server, What: e.Method, Was: was, Would: would, Change: "same", Note: note}
	if e.Principal != nil && e.Principal.Transport == "" {
		r.Older++
	}
	if e.Principal != nil {
		x.Subject = e.Principal.Subject
	}
	if e.Target != "" {
		x.What += " " + e.Target
	}
	refused := string(warder.OutcomeRefused)
	switch {
	case was.Outcome != refused && would.Outcome == refused:
		x.Change = "stricter"
		r.Stricter++
	case was.Outcome == refused && would.Outcome != refused:
		x.Change = "looser"
		r.Looser++
	case was.Outcome == refused && (was.Control != would.Control || was.Reason != would.Reason):
		x.Change = "other"
		r.Other++
	}
	r.Judged++
	r.Exchanges = append(r.Exchanges, x)
}

func (r *result) print(p *printer, all bool) error {
	shown := r.Exchanges
	if !all {
		shown = []replayed{}
		for _, x := range r.Exchanges {
			if x.Change != "same" {
				shown = append(shown, x)
			}
		}
	}
	r.Exchanges = shown
	var verdict error
	if r.Stricter > 0 {
		verdict = silent(exitRefused)
	}
	if p.json {
		if err := p.writeJSON(r); err != nil {
			return err
		}
		return verdict
	}
	if len(shown) > 0 {
		g := &grid{header: []string{"CHANGE", "WHO", "SERVER", "WHAT", "WAS", "WOULD BE", "EXCHANGE"}}
		for _, x := range shown {
			g.add(x.Change, orDash(x.Subject), orDash(x.Server), x.What, x.Was.String(), x.Would.String(), x.Exchange)
		}
		if err := p.table(g); err != nil {
			return err
		}
	}
	if err := p.text("%s judged: %d stricter, %d looser, %d refused otherwise, %d as before; %d not kept, %d refused elsewhere",
		counted(r.Judged, "exchange"), r.Stricter, r.Looser, r.Other, r.Judged-r.Stricter-r.Looser-r.Other, r.Unknown, r.Elsewhere); err != nil {
		return err
	}
	if r.Older > 0 {
		if err := p.text("%s of an older version: place, posture, risk, purpose, grant and login were not known", counted(r.Older, "record")); err != nil {
			return err
		}
	}
	return verdict
}
