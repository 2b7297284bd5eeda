package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/admin"
)

func grantCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "grant",
		Short: "Ask for and decide about time-limited access",
		Long: "A grant lets somebody use tools of one server for a limited time. Somebody asks, somebody else\n" +
			"approves; it ends by itself, by use, or when it is revoked.",
		GroupID: "decide",
	})
	cmd.AddCommand(grantRequestCommand(), grantListCommand(), grantShowCommand(),
		grantDecideCommand("approve", "Approve a grant that was asked for", "  warder grant approve 01k…", "approved"),
		grantDecideCommand("deny", "Refuse a grant that was asked for", "  warder grant deny 01k… --reason 'use the report instead'", "denied"),
		grantDecideCommand("revoke", "End a grant at once", "  warder grant revoke 01k… --reason 'work is done'", "revoked"))
	return cmd
}

func grantRequestCommand() *cobra.Command {
	var r admin.GrantRequest
	var ttl time.Duration
	var bounds []string
	cmd := &cobra.Command{
		Use:   "request SERVER [TOOL...]",
		Short: "Ask for access to tools of a server",
		Long: "Without TOOL every tool of the server is asked for. --arg narrows what calls may say, by a JSON pointer\n" +
			"into the arguments: POINTER=VALUE (exactly this), POINTER^=PREFIX, POINTER<=NUMBER, POINTER>=NUMBER.",
		Example: "  warder grant request files read_file --for 1h --reason 'ticket 4711'\n  warder grant request bank transfer --for 10m --uses 1 --arg '/amount<=100' --principal 'https://idp.example.com|ana'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Server, r.Tools, r.TTLSeconds = args[0], args[1:], int64(ttl/time.Second)
			for _, word := range bounds {
				b, err := parseBound(word)
				if err != nil {
					return err
				}
				r.Arguments = append(r.Arguments, b)
			}
			return operating(cmd, func(ctx context.Context, d *desk) error {
				g, err := do[admin.Grant](ctx, d, admin.Ask{Operation: "grants.request", Body: r})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(g)
				}
				return d.p.text("Asked for %s\nIt waits for approval: warder grant approve %s", describeGrant(&g), g.ID)
			})
		},
	}
	operateFlags(cmd)
	f := cmd.Flags()
	f.DurationVar(&ttl, "for", time.Hour, "how long it shall be good from its approval")
	f.IntVar(&r.Uses, "uses", 0, "calls it shall be good for (default: not bounded)")
	f.StringVar(&r.Principal, "principal", "", "who shall have it: ISSUER|SUBJECT or group:NAME (default: you)")
	f.StringVar(&r.Agent, "agent", "", "only through this registered agent")
	f.StringVar(&r.Purpose, "purpose", "", "the purpose that calls must declare")
	f.StringArrayVar(&bounds, "arg", nil, "bound on an argument")
	reasonFlag(cmd, &r.Reason)
	return cmd
}

// parseBound reads a bound as it is typed.
func parseBound(word string) (admin.Bound, error) {
	bad := func(why string) (admin.Bound, error) {
		return admin.Bound{}, fail(exitUsage, "write it like '/path^=/srv/', '/mode=\"read\"' or '/amount<=100'", fmt.Errorf("--arg %q: %s", oneLine(word), why))
	}
	i := strings.IndexByte(word, '=')
	if i < 1 {
		return bad("there is no =")
	}
	pointer, value, op := word[:i], word[i+1:], byte('=')
	switch last := pointer[len(pointer)-1]; last {
	case '^', '<', '>':
		pointer, op = pointer[:len(pointer)-1], last
	}
	if !strings.HasPrefix(pointer, "/") {
		return bad("it does not begin with a JSON pointer such as /path")
	}
	b := admin.Bound{Pointer: pointer}
	switch op {
	case '^':
		b.Prefix = value
		return b, nil
	case '<', '>':
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return bad("want a number")
		}
		if op == '<' {
			b.Max = &n
		} else {
			b.Min = &n
		}
		return b, nil
	default:
		b.Equals = json.RawMessage(value)
		if !json.Valid(b.Equals) { // a word without quotes is a string
			text, err := json.Marshal(value)
			if err != nil {
				return bad("not a value")
			}
			b.Equals = text
		}
		return b, nil
	}
}

func describeGrant(g *admin.Grant) string {
	what := g.Server
	if len(g.Tools) > 0 {
		what += "/" + strings.Join(g.Tools, ",")
	}
	text := fmt.Sprintf("%s for %s, %s", oneLine(what), oneLine(g.Principal), time.Duration(g.TTLSeconds)*time.Second)
	if g.Uses > 0 {
		text += ", " + counted(g.Uses, "call")
	}
	return text + " (" + g.ID + ")"
}

func grantListCommand() *cobra.Command {
	var status, principal, server string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List grants, those that wait for approval included",
		Example: "  warder grant list --status pending\n  warder grant list --server files -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				list, err := all[admin.Grant](ctx, d, "grants.list", query("status", status, "principal", principal, "server", server))
				if err != nil {
					return err
				}
				g := &grid{header: []string{"ID", "STATUS", "PRINCIPAL", "SERVER", "TOOLS", "ENDS", "LEFT", "REASON"}}
				for i := range list {
					x := &list[i]
					left := "-"
					if x.Uses > 0 {
						left = strconv.Itoa(x.Uses - x.Used)
					}
					ends := in(x.NotAfter)
					if x.Status == "pending" {
						ends = (time.Duration(x.TTLSeconds) * time.Second).String()
					}
					g.add(x.ID, x.Status, x.Principal, x.Server, orDash(strings.Join(x.Tools, ",")), ends, left, orDash(x.Reason))
				}
				return d.p.print(list, g)
			})
		},
	}
	operateFlags(cmd)
	cmd.Flags().StringVar(&status, "status", "", "only pending, active, denied, revoked, used_up, collapsed or ended")
	cmd.Flags().StringVar(&principal, "principal", "", "only those of ISSUER|SUBJECT or group:NAME")
	cmd.Flags().StringVar(&server, "server-name", "", "only those for this server")
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions([]string{"pending", "active", "denied", "revoked", "used_up", "collapsed", "ended"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func grantShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a grant with its bounds and who decided",
		Example: "  warder grant show 01k…",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				g, err := do[admin.Grant](ctx, d, admin.Ask{Operation: "grants.get", Path: map[string]string{"id": args[0]}})
				if err != nil {
					return err
				}
				if d.p.json {
					return d.p.writeJSON(g)
				}
				return d.p.text("%s", strings.TrimRight(grantText(&g), "\n"))
			})
		},
	}
	operateFlags(cmd)
	return cmd
}

func grantText(g *admin.Grant) string {
	var b strings.Builder
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name+":", oneLine(value))
		}
	}
	row("Grant", g.ID)
	row("Status", g.Status)
	row("Principal", g.Principal)
	row("Agent", g.Agent)
	row("Server", g.Server)
	row("Tools", orDash(strings.Join(g.Tools, ", ")))
	for _, bound := range g.Arguments {
		row("Argument", boundText(&bound))
	}
	row("Purpose", g.Purpose)
	row("Good for", (time.Duration(g.TTLSeconds) * time.Second).String())
	if g.Uses > 0 {
		row("Calls", fmt.Sprintf("%d of %d used", g.Used, g.Uses))
	}
	row("Asked", fmt.Sprintf("by %s %s", g.RequestedBy, ago(g.RequestedAt)))
	row("Reason", g.Reason)
	for _, v := range g.Votes {
		row("Approved", fmt.Sprintf("by %s %s", v.By, ago(v.At)))
	}
	if !g.NotAfter.IsZero() {
		row("Ends", g.NotAfter.Format(time.RFC3339))
	}
	row("Ended by", g.EndedBy)
	return b.String()
}

func boundText(b *admin.Bound) string {
	switch {
	case len(b.Equals) > 0:
		return b.Pointer + " = " + string(b.Equals)
	case len(b.OneOf) > 0:
		var words []string
		for _, v := range b.OneOf {
			words = append(words, string(v))
		}
		return b.Pointer + " one of " + strings.Join(words, ", ")
	case b.Prefix != "":
		return b.Pointer + " begins with " + b.Prefix
	}
	text := b.Pointer
	if b.Min != nil {
		text += fmt.Sprintf(" at least %g", *b.Min)
	}
	if b.Max != nil {
		text += fmt.Sprintf(" at most %g", *b.Max)
	}
	return text
}

// grantDecideCommand is a command that decides about one or several grants.
func grantDecideCommand(verb, short, example, done string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     verb + " ID...",
		Short:   short,
		Example: example,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operating(cmd, func(ctx context.Context, d *desk) error {
				decided := []admin.Grant{}
				for _, id := range args {
					g, err := do[admin.Grant](ctx, d, admin.Ask{Operation: "grants." + verb, Path: map[string]string{"id": id}, Body: admin.Reason{Reason: reason}})
					if err != nil {
						return errors.Join(fmt.Errorf("%s: %w", oneLine(id), err), printed(d, decided, done))
					}
					decided = append(decided, g)
				}
				return printed(d, decided, done)
			})
		},
		ValidArgsFunction: completeIDs("grants.list", map[string]string{"approve": "pending", "deny": "pending", "revoke": "active"}[verb]),
	}
	operateFlags(cmd)
	reasonFlag(cmd, &reason)
	return cmd
}

// printed says what was done.
func printed(d *desk, grants []admin.Grant, done string) error {
	if d.p.json {
		return d.p.writeJSON(grants)
	}
	for i := range grants {
		g := &grants[i]
		text := done
		if done == "approved" && g.Status != "active" {
			text = "approved by you, still waiting for others:"
		}
		if err := d.p.text("%s %s", text, describeGrant(g)); err != nil {
			return err
		}
	}
	return nil
}

// completeIDs completes the ids of a list from the gateway.
func completeIDs(operation, status string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		d, err := openDesk(ctx, cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		type item struct {
			ID string `json:"id"`
		}
		items, err := all[item](ctx, d, operation, query("status", status))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []string
		for _, i := range items {
			ids = append(ids, i.ID)
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}
