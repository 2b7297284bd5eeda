package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record"
)

func auditCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "audit",
		Short:   "Read and verify the audit trail",
		GroupID: "look",
	})
	cmd.AddCommand(auditShowCommand(), auditVerifyCommand(), auditReceiptCommand())
	return cmd
}

// openTrail opens the trail of a data folder for reading.
func openTrail(at located) (*record.Reader, error) {
	r, err := record.Open(at.audit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(exitFailed, "start the gateway once: warder serve", fmt.Errorf("there is no audit trail yet: %w", err))
	}
	return r, err
}

func auditShowCommand() *cobra.Command {
	var (
		filter       record.Filter
		since, until string
		last         int
	)
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show what happened, oldest first",
		Example: "  warder audit show --outcome refused --since 1h\n  warder audit show --server notes --last 20 -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			now := time.Now()
			if filter.Since, err = moment(since, now); err != nil {
				return err
			}
			if filter.Until, err = moment(until, now); err != nil {
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
			events, err := collect(trail, filter, last)
			if err := errors.Join(printEvents(p, events), damaged(err)); err != nil {
				return err
			}
			return nil
		},
	}
	stateFlags(cmd)
	f := cmd.Flags()
	f.StringVar((*string)(&filter.Type), "type", "", "only this type: exchange, intent, definition, approval, config, lifecycle, auth")
	f.StringVar((*string)(&filter.Outcome), "outcome", "", "only allowed, refused, failed or canceled")
	f.StringVar((*string)(&filter.Control), "control", "", "only what this control refused")
	f.StringVar(&filter.Server, "server", "", "only this server")
	f.StringVar(&filter.Method, "method", "", "only this method")
	f.StringVar(&filter.Target, "target", "", "only this tool, prompt or resource")
	f.StringVar(&filter.Subject, "subject", "", "only this principal")
	f.StringVar(&since, "since", "", "from this moment on: 15m (ago), 2026-11-22 or 2026-11-22T10:00:00Z")
	f.StringVar(&until, "until", "", "up to this moment")
	f.IntVar(&last, "last", 0, "only the last so many")
	return cmd
}

// damaged gives an error of reading the trail its exit code.
func damaged(err error) error {
	if err == nil {
		return nil
	}
	return fail(exitVerify, "say more with: warder audit verify", fmt.Errorf("read audit trail: %w", err))
}

// collect reads the selected events; of many, the last so many if last is positive.
func collect(trail *record.Reader, filter record.Filter, last int) ([]warder.Event, error) {
	events := []warder.Event{}
	for e, err := range trail.Events(filter) {
		if err != nil {
			return events, err
		}
		events = append(events, e)
		if last > 0 && len(events) > 2*last {
			events = append(events[:0], events[len(events)-last:]...)
		}
	}
	if last > 0 && len(events) > last {
		events = events[len(events)-last:]
	}
	return events, nil
}

func printEvents(p *printer, events []warder.Event) error {
	g := &grid{header: []string{"TIME", "TYPE", "WHO", "SERVER", "WHAT", "OUTCOME", "CONTROL", "WHY", "EXCHANGE"}}
	for i := range events {
		e := &events[i]
		what := strings.TrimSpace(e.Method + " " + e.Target)
		if what == "" {
			what = e.Detail
		}
		who := "-"
		if e.Principal != nil {
			who = e.Principal.Subject
		}
		g.add(e.Time.UTC().Format("2006-01-02 15:04:05.000"), string(e.Type), who, orDash(e.Server), orDash(what),
			orDash(string(e.Outcome)), orDash(string(e.Control)), orDash(string(e.Reason)), orDash(e.Exchange))
	}
	return p.print(events, g)
}

// moment reads a duration ago, a day, or a time.
func moment(word string, now time.Time) (time.Time, error) {
	if word == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(word); err == nil {
		return now.Add(-d.Abs()), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, word); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fail(exitUsage, "write 15m, 2026-11-22 or 2026-11-22T10:00:00Z", fmt.Errorf("%q is no moment", oneLine(word)))
}

func auditVerifyCommand() *cobra.Command {
	var key string
	var checkpoints []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify offline that the audit trail is as it was written",
		Long: "Verify reads every record, the signed checkpoint and the tree, and says what was edited, deleted,\n" +
			"reordered, cut off or added, and where. Give the public key and earlier checkpoints from where you\n" +
			"keep them: without them, a folder that was replaced as a whole cannot be told.\n\n" +
			"Exit code 4 means that the trail is not as it was written.",
		Example: "  warder audit verify\n  warder audit verify --key 'gate.example.com/audit+…' --checkpoint yesterday.checkpoint",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			at, err := locate(cmd)
			if err != nil {
				return err
			}
			own := key == ""
			if own {
				trail, err := openTrail(at)
				if err != nil {
					return err
				}
				if key, err = trail.VerifierKey(); err != nil {
					return err
				}
			}
			var earlier [][]byte
			for _, name := range checkpoints {
				data, err := os.ReadFile(name)
				if err != nil {
					return fmt.Errorf("read checkpoint: %w", err)
				}
				earlier = append(earlier, data)
			}
			report, err := record.Verify(cmd.Context(), at.audit, key, earlier...)
			if err != nil {
				return fail(exitVerify, "", err)
			}
			return printReport(p, report, key, own)
		},
	}
	stateFlags(cmd)
	cmd.Flags().StringVar(&key, "key", "", "public key of the checkpoints, kept elsewhere (default: the one in the folder)")
	cmd.Flags().StringSliceVar(&checkpoints, "checkpoint", nil, "files with earlier checkpoints, kept elsewhere")
	_ = cmd.MarkFlagFilename("checkpoint")
	return cmd
}

func printReport(p *printer, r record.Report, key string, own bool) error {
	var verdict error
	if !r.OK() {
		verdict = silent(exitVerify)
	}
	if p.json {
		return errors.Join(p.writeJSON(struct {
			OK bool `json:"ok"`
			record.Report
		}{r.OK(), r}), verdict)
	}
	span := "no records"
	if r.Records > 0 {
		span = fmt.Sprintf("%d records from %s to %s", r.Records, r.First.UTC().Format(time.RFC3339), r.Last.UTC().Format(time.RFC3339))
	}
	word := "the audit trail is as it was written"
	if !r.OK() {
		word = "THE AUDIT TRAIL IS NOT AS IT WAS WRITTEN"
	}
	if err := p.text("%s\n%s: %s, %d covered by the signed checkpoint", word, oneLine(r.Origin), span, r.Covered); err != nil {
		return err
	}
	g := &grid{header: []string{"", "KIND", "RECORDS", "FILE", "DETAIL"}}
	for _, x := range r.Problems {
		g.add("problem", x.Kind, fmt.Sprintf("%d-%d", x.Seq, x.Until), orDash(x.Segment), x.Detail)
	}
	for _, x := range r.Warnings {
		g.add("warning", x.Kind, fmt.Sprintf("%d-%d", x.Seq, x.Until), orDash(x.Segment), x.Detail)
	}
	if len(g.rows) > 0 {
		if err := p.table(g); err != nil {
			return err
		}
	}
	if own {
		if err := p.text("key: %s (from the folder itself; keep it elsewhere and give it with --key)", oneLine(key)); err != nil {
			return err
		}
	}
	return verdict
}
