package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/strictyaml"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/layer/access/cedar"
	"github.com/warder-mcp/warder/registry"
	"github.com/warder-mcp/warder/wire"
)

// A caseFile is a file of questions to policy with the answers that are wanted.
type caseFile struct {
	Cases []policyCase `yaml:"cases"`
}

// A policyCase is one question.
type policyCase struct {
	Name      string        `yaml:"name"`      // names the case
	Principal casePrincipal `yaml:"principal"` // who asks
	Action    string        `yaml:"action"`    // method; default tools/call
	Server    string        `yaml:"server"`    // server acted on
	Tool      string        `yaml:"tool"`      // tool called
	Prompt    string        `yaml:"prompt"`    // prompt read
	Resource  string        `yaml:"resource"`  // URI of the resource read
	Effect    string        `yaml:"effect"`    // read, write or destructive; default: that of the approval, else unknown
	Labels    []string      `yaml:"labels"`    // of the definition; default: those of the approval
	Arguments string        `yaml:"arguments"` // JSON object
	Context   caseContext   `yaml:"context"`   // circumstances
	Want      string        `yaml:"want"`      // allow or deny
	Reason    string        `yaml:"reason"`    // why not, such as no_permit or forbidden; empty: any
	By        []string      `yaml:"by"`        // ids of the policies that decide; empty: any
	Needs     []string      `yaml:"needs"`     // obligations of an allowed call, such as "approval group:ops"; empty: any
}

// A casePrincipal is who asks.
type casePrincipal struct {
	Issuer    string   `yaml:"issuer"`    // default https://issuer.example
	Subject   string   `yaml:"subject"`   // default someone
	Tenant    string   `yaml:"tenant"`    //
	Client    string   `yaml:"client"`    //
	Agent     string   `yaml:"agent"`     //
	Groups    []string `yaml:"groups"`    //
	Scopes    []string `yaml:"scopes"`    //
	ACR       string   `yaml:"acr"`       //
	AMR       []string `yaml:"amr"`       //
	AuthTime  string   `yaml:"auth_time"` // when the person logged in, RFC 3339
	Transport string   `yaml:"transport"` // default bearer
	Bound     bool     `yaml:"bound"`     // the credential is bound to a key
}

func (c *policyCase) action() string {
	switch {
	case c.Action != "":
		return c.Action
	case c.Prompt != "":
		return wire.MethodPromptsGet
	case c.Resource != "":
		return wire.MethodResourcesRead
	default:
		return wire.MethodToolsCall
	}
}

// readCases reads and checks a case file.
func readCases(name string) ([]policyCase, error) {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, fail(exitConfig, "", fmt.Errorf("case file: %w", err))
	}
	defer root.Close()
	data, err := root.ReadFile(filepath.Base(name))
	if err != nil {
		return nil, fail(exitConfig, "", fmt.Errorf("case file: %w", err))
	}
	var f caseFile
	if err := strictyaml.Decode(name, data, &f, f.validate); err != nil {
		return nil, err
	}
	return f.Cases, nil
}

func (f *caseFile) validate() (out []strictyaml.Problem) {
	names := map[string]bool{}
	problem := func(i int, key, message string) {
		out = append(out, strictyaml.Problem{Path: fmt.Sprintf("cases[%d].%s", i, key), Message: message})
	}
	for i := range f.Cases {
		c := &f.Cases[i]
		if c.Name == "" || names[c.Name] {
			problem(i, "name", "every case needs a name of its own")
		}
		names[c.Name] = true
		if c.Want != "allow" && c.Want != "deny" {
			problem(i, "want", "want is allow or deny")
		}
		if _, err := registry.ParseEffect(c.Effect); c.Effect != "" && err != nil {
			problem(i, "effect", err.Error())
		}
		if v, err := wire.Tree([]byte(c.Arguments)); c.Arguments != "" && (err != nil || !isObject(v)) {
			problem(i, "arguments", "arguments are a JSON object, quoted")
		}
		named := 0
		for _, s := range []string{c.Tool, c.Prompt, c.Resource} {
			if s != "" {
				named++
			}
		}
		if named > 1 {
			problem(i, "tool", "a case acts on one of tool, prompt and resource")
		}
	}
	return out
}

func isObject(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

// asker turns cases into questions: definitions are those of the registry where it has them.
type asker struct {
	cfg     *config.Config
	entries []registry.Entry
}

func (a *asker) request(c *policyCase) (*access.Request, error) {
	p := c.Principal
	r := &access.Request{
		Action: c.action(),
		Principal: &warder.Principal{
			Issuer: orElse(p.Issuer, "https://issuer.example"), Subject: orElse(p.Subject, "someone"), Tenant: p.Tenant,
			Client: p.Client, Agent: p.Agent, Groups: p.Groups, Scopes: p.Scopes, ACR: p.ACR, AMR: p.AMR,
			Transport: orElse(p.Transport, "bearer"),
		},
	}
	if p.Bound {
		r.Principal.Binding = "bound"
	}
	if p.AuthTime != "" {
		at, err := time.Parse(time.RFC3339, p.AuthTime)
		if err != nil {
			return nil, fmt.Errorf("case %q: principal.auth_time: %w", c.Name, err)
		}
		r.Principal.AuthTime = at
	}
	var err error
	if r.Context, err = c.Context.circumstances(c.Server, a.cfg.Access.Hours); err != nil {
		return nil, fmt.Errorf("case %q: %w", c.Name, err)
	}
	server := a.server(c.Server)
	switch {
	case c.Tool != "":
		r.Resource = access.Resource{Kind: access.KindTool, Server: server, Name: c.Tool, Tool: a.definition(c, registry.KindTool, c.Tool)}
	case c.Prompt != "":
		r.Resource = access.Resource{Kind: access.KindPrompt, Server: server, Name: c.Prompt, Tool: a.definition(c, registry.KindPrompt, c.Prompt)}
	case c.Resource != "":
		r.Resource = access.Resource{Kind: access.KindResource, Server: server, Name: c.Resource}
	default:
		r.Resource = access.Resource{Kind: access.KindServer, Server: server, Name: c.Server}
	}
	if c.Tool != "" || c.Prompt != "" {
		r.Context.Arguments = wire.Parse([]byte(orElse(c.Arguments, "{}")))
	}
	return r, nil
}

func (a *asker) server(name string) *warder.Server {
	for i := range a.cfg.Servers {
		if s := &a.cfg.Servers[i]; s.Name == name {
			return &warder.Server{Name: s.Name, Resource: s.Resource, Labels: s.Labels, Local: s.Run != nil}
		}
	}
	return &warder.Server{Name: name}
}

// definition is what the case says of its target, and the approval where the case says nothing.
func (a *asker) definition(c *policyCase, kind, name string) *warder.Tool {
	t := &warder.Tool{Kind: kind, Server: c.Server, Name: name, Labels: c.Labels}
	for i := range a.entries {
		e := &a.entries[i]
		if e.Server != c.Server || e.Kind != kind || e.Name != name || !e.Latest {
			continue
		}
		t.Digest, t.State = e.Digest, e.State
		if e.Approval != nil {
			t.Effect = e.Approval.Effect
			if t.Labels == nil {
				t.Labels = e.Approval.Labels
			}
		}
	}
	if e, err := registry.ParseEffect(c.Effect); c.Effect != "" && err == nil {
		t.Effect = e
	}
	return t
}

func policyTestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Ask the policies the questions of case files and compare the answers",
		Long: "A case file lists questions with the answers that are wanted:\n\n" +
			"  cases:\n" +
			"    - name: staff read files\n" +
			"      principal: {subject: ana, groups: [staff]}\n" +
			"      server: files\n" +
			"      tool: read\n" +
			"      effect: read\n" +
			"      arguments: '{\"path\": \"/pub/a\"}'\n" +
			"      want: allow\n\n" +
			"A case may also name the policies that decide (by), the reason of a denial (reason), what an allowed\n" +
			"call still needs (needs) and the circumstances (context). Effect and labels are those of the\n" +
			"registry's approval unless the case says otherwise.\n\nExit code 4 means that an answer differs.",
		Example: "  warder policy test policies/*.cases.yaml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			a, engine, err := openAsker(cmd)
			if err != nil {
				return err
			}
			var all []caseOutcome
			for _, name := range args {
				cases, err := readCases(name)
				if err != nil {
					return err
				}
				for i := range cases {
					o, err := a.try(cmd.Context(), engine, &cases[i])
					if err != nil {
						return err
					}
					o.File = name
					all = append(all, o)
				}
			}
			return printOutcomes(p, all)
		},
	}
	stateFlags(cmd)
	return cmd
}

func openAsker(cmd *cobra.Command) (*asker, *cedar.Engine, error) {
	at, err := locate(cmd)
	if err != nil {
		return nil, nil, err
	}
	engine, err := loadPolicies(at.cfg)
	if err != nil {
		return nil, nil, err
	}
	entries, err := lastSeen(cmd.Context(), at)
	return &asker{cfg: at.cfg, entries: entries}, engine, err
}

// A caseOutcome is how one case ended.
type caseOutcome struct {
	File   string   `json:"file"`
	Case   string   `json:"case"`
	OK     bool     `json:"ok"`
	Want   string   `json:"want"`
	Got    string   `json:"got"`
	Reason string   `json:"reason,omitempty"`
	By     []string `json:"by,omitempty"`
	Needs  []string `json:"needs,omitempty"`
	Wrong  []string `json:"wrong,omitempty"`
}

func (a *asker) try(ctx context.Context, engine *cedar.Engine, c *policyCase) (caseOutcome, error) {
	r, err := a.request(c)
	if err != nil {
		return caseOutcome{}, fail(exitConfig, "", err)
	}
	d, err := engine.Authorize(ctx, r)
	if err != nil {
		return caseOutcome{}, fmt.Errorf("case %q: %w", c.Name, err)
	}
	o := caseOutcome{Case: c.Name, Want: c.Want, Got: "deny", Reason: string(d.Reason), By: d.Policies, Needs: needsOf(d)}
	if d.Allow {
		o.Got, o.Reason = "allow", ""
	}
	differ := func(what string, want, got []string) {
		if want, got = slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got)); len(want) > 0 && !slices.Equal(want, got) {
			o.Wrong = append(o.Wrong, fmt.Sprintf("%s: want %s, got %s", what, strings.Join(want, ", "), orDash(strings.Join(got, ", "))))
		}
	}
	if o.Got != o.Want {
		o.Wrong = append(o.Wrong, fmt.Sprintf("want %s, got %s", o.Want, strings.TrimSpace(o.Got+" "+o.Reason)))
	}
	if c.Reason != "" && c.Reason != o.Reason {
		o.Wrong = append(o.Wrong, fmt.Sprintf("reason: want %s, got %s", c.Reason, orDash(o.Reason)))
	}
	differ("policies", c.By, d.Policies)
	differ("needs", c.Needs, o.Needs)
	o.OK = len(o.Wrong) == 0
	return o, nil
}

func printOutcomes(p *printer, all []caseOutcome) error {
	failed := 0
	g := &grid{header: []string{"CASE", "ANSWER", "BY", "WRONG"}}
	for _, o := range all {
		if !o.OK {
			failed++
		}
		g.add(o.Case, strings.TrimSpace(o.Got+" "+o.Reason), orDash(strings.Join(o.By, ", ")), orDash(strings.Join(o.Wrong, "; ")))
	}
	err := p.print(append([]caseOutcome{}, all...), g)
	if err == nil && !p.json {
		err = p.text("%d passed, %d failed", len(all)-failed, failed)
	}
	if err == nil && failed > 0 {
		return silent(exitVerify)
	}
	return err
}

func policyExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain FILE CASE",
		Short: "Explain the answer to one case: which policies decided, and what would change it",
		Long: "Explain asks the question of one case of a case file, lists every policy that had a say, and searches\n" +
			"for single changes that turn the answer around. For a recorded exchange use: warder explain EXCHANGE.",
		Example: "  warder policy explain policies/files.cases.yaml 'staff read files'",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			cases, err := readCases(args[0])
			if err != nil {
				return err
			}
			i := slices.IndexFunc(cases, func(c policyCase) bool { return c.Name == args[1] })
			if i < 0 {
				return fail(exitUsage, "the file has "+counted(len(cases), "case"), errors.New("no such case"))
			}
			a, engine, err := openAsker(cmd)
			if err != nil {
				return err
			}
			r, err := a.request(&cases[i])
			if err != nil {
				return fail(exitConfig, "", err)
			}
			why, err := engine.Explain(cmd.Context(), r)
			if err != nil {
				return err
			}
			if p.json {
				return p.writeJSON(why)
			}
			return (&explained{Policy: &why}).printPolicy(p)
		},
	}
	stateFlags(cmd)
	return cmd
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// A caseContext is the circumstances of a case.
type caseContext struct {
	Door     string        `yaml:"door"`     // default streamable_http
	Revision string        `yaml:"revision"` // default 2026-07-28
	Endpoint string        `yaml:"endpoint"` // default: the server
	Now      string        `yaml:"now"`      // RFC 3339; default: now
	Labels   []string      `yaml:"labels"`   // data labels met so far
	Findings []caseFinding `yaml:"findings"` // what detectors found
	Zone     string        `yaml:"zone"`     //
	Country  string        `yaml:"country"`  //
	Hours    []string      `yaml:"hours"`    // times of the week that it is; default: those of now
	Hour     *int          `yaml:"hour"`     // local hour, 0 to 23; default: that of now
	Weekday  string        `yaml:"weekday"`  // mon to sun; default: that of now
	Posture  string        `yaml:"posture"`  // compliant, not_compliant or stale
	Risk     int           `yaml:"risk"`     // 0 to 100
	Trust    int           `yaml:"trust"`    // of the tool, 0 to 100
	Purpose  string        `yaml:"purpose"`  //
	Grant    string        `yaml:"grant"`    // id of the grant that allows the call for a while
	Agent    caseAgent     `yaml:"agent"`    // the registered agent that acts
}

// A caseFinding is one finding that policy sees.
type caseFinding struct {
	Rule     string `yaml:"rule"`
	Severity int    `yaml:"severity"` // 0 info to 4 critical
}

// A caseAgent is a registered agent.
type caseAgent struct {
	Name  string   `yaml:"name"`
	Owner string   `yaml:"owner"`
	Roles []string `yaml:"roles"`
}

// circumstances makes the context of the question.
func (c *caseContext) circumstances(server string, hours access.HoursConfig) (access.Context, error) {
	now := time.Now()
	if c.Now != "" {
		var err error
		if now, err = time.Parse(time.RFC3339, c.Now); err != nil {
			return access.Context{}, fmt.Errorf("context.now: %w", err)
		}
	}
	moment, err := access.MomentOf(hours, now)
	if err != nil {
		return access.Context{}, err
	}
	if c.Hours != nil {
		moment.Hours = c.Hours
	}
	if c.Hour != nil {
		moment.Hour = *c.Hour
	}
	out := access.Context{
		Door: warder.Door(orElse(c.Door, string(warder.DoorHTTP))), Revision: warder.Revision(orElse(c.Revision, string(warder.Revision20260728))),
		Endpoint: orElse(c.Endpoint, server), Now: now, Labels: c.Labels,
		Zone: c.Zone, Country: c.Country, Hours: moment.Hours, Hour: moment.Hour, Weekday: orElse(c.Weekday, moment.Weekday), Posture: c.Posture,
		Risk: c.Risk, Trust: c.Trust, Purpose: c.Purpose,
	}
	if c.Grant != "" {
		out.Grant = &warder.Grant{ID: c.Grant, Server: server, Purpose: c.Purpose, NotBefore: now, NotAfter: now.Add(time.Hour)}
	}
	if c.Agent.Name != "" {
		out.Agent = &warder.Agent{Name: c.Agent.Name, Owner: c.Agent.Owner, Roles: c.Agent.Roles}
	}
	var found []warder.Finding
	for _, f := range c.Findings {
		found = append(found, warder.Finding{Rule: f.Rule, Severity: warder.Severity(min(max(f.Severity, 0), int(warder.Critical)))})
	}
	if found != nil {
		out.Decisions = []warder.Decision{{Verdict: warder.Pass, Findings: found}}
	}
	return out, nil
}

// needsOf lists what an allowed call needs besides, such as "approval group:ops".
func needsOf(d access.Decision) []string {
	var out []string
	for _, o := range d.Obligations {
		out = append(out, strings.TrimSpace(string(o.Kind)+" "+o.Value))
	}
	return out
}
