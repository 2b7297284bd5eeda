package access

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
)

// Config is the access section of the configuration. Without policies everything is denied.
type Config struct {
	Policies []string            `yaml:"policies"` // policy files; the last path element may be a pattern such as *.cedar
	Inline   string              `yaml:"inline"`   // further policies as text
	Groups   map[string][]string `yaml:"groups"`   // group to the groups it is a member of
	Reassess time.Duration       `yaml:"reassess"` // how often a running stream is authorised again; zero means 30s, at most 10m

	Grants     GrantConfig         `yaml:"grants"`      // which calls need access that was granted for a while
	Approval   ApprovalConfig      `yaml:"approval"`    // which calls wait until a person approved exactly them
	Purposes   map[string]Purpose  `yaml:"purposes"`    // what each purpose allows; if any is named, no other purpose is accepted
	PurposeFor []string            `yaml:"purpose_for"` // effects whose calls must state a purpose: read, write, destructive, unknown; none by default
	Zones      map[string][]string `yaml:"zones"`       // name of a place in the network to its address ranges (CIDR); the narrowest counts
	Countries  map[string][]string `yaml:"countries"`   // country to its address ranges (CIDR); the narrowest counts
	Hours      HoursConfig         `yaml:"hours"`       // names for times of the week
	Attributes AttributeConfig     `yaml:"attributes"`  // which circumstances must be known and good
	Risk       RiskConfig          `yaml:"risk"`        // what the running risk score of a caller does
	Freshness  FreshnessConfig     `yaml:"freshness"`   // how old the knowledge about revocations may be
}

// A GrantConfig says which calls need a grant.
type GrantConfig struct {
	Require   []string      `yaml:"require"`   // effects of tools whose calls need one: read, write, destructive, unknown; default destructive, [] for none
	MaxTTL    time.Duration `yaml:"max_ttl"`   // longest life of a grant; default 8h, at most 168h
	Pending   time.Duration `yaml:"pending"`   // how long a request waits for approval; default 24h
	Unused    time.Duration `yaml:"unused"`    // a grant that nobody used for so long collapses; default 30m
	Skew      time.Duration `yaml:"skew"`      // how far the clocks of replicas may differ; default 5s, at most 1m
	Approvers []string      `yaml:"approvers"` // who may approve: group:NAME or issuer|subject; default every operator
	Needed    int           `yaml:"needed"`    // how many people must approve; default 1, at most 5
	Self      bool          `yaml:"self"`      // true: who asks may approve
}

// An ApprovalConfig says which calls wait for a person, and for whom.
type ApprovalConfig struct {
	Require   []string      `yaml:"require"`    // effects of tools whose calls wait: read, write, destructive, unknown; none by default
	Tools     []string      `yaml:"tools"`      // server/tool whose calls wait; * as server or tool matches any
	Approvers []string      `yaml:"approvers"`  // who may approve: group:NAME or issuer|subject; default every operator
	Needed    int           `yaml:"needed"`     // how many people must approve; default 1, at most 5
	Self      bool          `yaml:"self"`       // true: the caller may approve the own call
	Wait      time.Duration `yaml:"wait"`       // how long a call waits before the client is told to come back; default 20s, at most 5m
	Timeout   time.Duration `yaml:"timeout"`    // how long a person has to decide, after which the call is denied; default 5m, at most 24h
	UseWithin time.Duration `yaml:"use_within"` // how long an approval is good for; default 2m, at most 1h
	Retention time.Duration `yaml:"retention"`  // how long a decided call can be shown with its parameters; default 24h
	Rate      ApprovalRate  `yaml:"rate"`       // against prompts that wear people out

	Webhook ApprovalWebhook `yaml:"webhook"` // another system that is told of calls that wait, and may decide; changes take a restart
}

// An ApprovalWebhook is another system that is told of calls that wait and may decide on them, both signed
// with HMAC-SHA-256 as Standard Webhooks 1.0.0 describes.
type ApprovalWebhook struct {
	URL     string     `yaml:"url"`             // told of each call that waits, by POST; https; empty: nobody is told
	Secret  secret.Ref `yaml:"secret"`          // signs what is sent and what comes back; at least 24 bytes; as file, env or exec
	Issuer  string     `yaml:"issuer"`          // who vouches for the people named in decisions, as the first part of issuer|subject; empty: no decisions are taken
	Private bool       `yaml:"private_network"` // true lets Warder reach the system at a private address
}

func (w ApprovalWebhook) check() error {
	if w.URL == "" && w.Issuer == "" {
		return nil
	}
	u, err := url.Parse(w.URL)
	if err != nil || w.URL != "" && (u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		return errors.New("approval.webhook.url: want an https URL")
	}
	if err := w.Secret.Validate(); err != nil || w.Secret.IsZero() {
		return errors.Join(errors.New("approval.webhook.secret: needed to sign"), err)
	}
	if w.Secret.File == "" && w.Secret.Env == "" && len(w.Secret.Exec) == 0 {
		return errors.New("approval.webhook.secret: give it as file, env or exec; stores of secrets are not asked for this one")
	}
	return nil
}

// An ApprovalRate bounds what is put to people (control HIL-02).
type ApprovalRate struct {
	Pending  int `yaml:"pending"`  // calls of one caller that wait at a time; default 5
	PerHour  int `yaml:"per_hour"` // calls of one caller that may be put to people in an hour; default 30
	Queue    int `yaml:"queue"`    // calls that wait for one set of approvers; default 50, a fifth of it kept for the critical
	Critical int `yaml:"critical"` // urgency, 0 to 100, from which a call is critical; default 70
}

// A Purpose is what calls that state it may do. Empty fields do not narrow.
type Purpose struct {
	Effects  []string `yaml:"effects"`  // read, write, destructive, unknown
	Labels   []string `yaml:"labels"`   // data labels that the tool and its server may carry
	Tools    []string `yaml:"tools"`    // server/tool; * as server or tool matches any
	Escalate bool     `yaml:"escalate"` // true: what does not match waits for a person instead of being denied
}

// A HoursConfig names times of the week.
type HoursConfig struct {
	Location string              `yaml:"location"` // time zone of the windows, such as Europe/Berlin; default UTC
	Windows  map[string][]string `yaml:"windows"`  // name to windows such as "mon-fri 08:00-18:00"
}

// An AttributeConfig says which circumstances must be known and good for calls of each effect: zone and
// country known, hours within a window, posture compliant.
type AttributeConfig struct {
	Require map[string][]string `yaml:"require"` // effect to zone, country, hours, posture
}

// A RiskConfig says what the running risk score, 0 to 100, does. A threshold of zero is not used.
type RiskConfig struct {
	StepUp     float64        `yaml:"step_up"`     // from this score, calls need a fresh login
	FreshLogin time.Duration  `yaml:"fresh_login"` // how old that login may be; default 5m
	Hold       float64        `yaml:"hold"`        // from this score, calls wait for a person
	Deny       float64        `yaml:"deny"`        // from this score, everything is refused
	HalfLife   time.Duration  `yaml:"half_life"`   // in which a score halves; default 10m, at most 24h
	Weights    map[string]int `yaml:"weights"`     // points by signal: refused 4, finding 20, critical 40, posture_lost 50, revoked 30, replay 40, behaviour 20
	Fresh      time.Duration  `yaml:"fresh"`       // how long a report about a device counts; default 24h
}

// A FreshnessConfig says how old the knowledge about revocations and grants may be before calls are
// refused, such as when the store cannot be reached.
type FreshnessConfig struct {
	Revocation time.Duration `yaml:"revocation"` // for calls with effect; default 5s, at most 1m
	StaleRead  time.Duration `yaml:"stale_read"` // for everything else; default 1m, at most 1h
}

// DefaultStaleRead is how old what is known may be for reads, unless freshness.stale_read says otherwise.
const DefaultStaleRead = time.Minute

// Interval of reassessment, and other defaults.
const (
	defaultReassess   = 30 * time.Second
	maxReassess       = 10 * time.Minute
	defaultWait       = 20 * time.Second
	maxWait           = 5 * time.Minute
	defaultFreshLogin = 5 * time.Minute
	defaultRevocation = 5 * time.Second
)

// Default returns the configuration without policies: everything is denied.
func Default() Config {
	return Config{Reassess: defaultReassess, Grants: GrantConfig{Require: []string{warder.EffectDestructive.String()}}}
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	bound := func(name string, d, most time.Duration) {
		if d < 0 || d > most {
			fault("%s: %v is not between 0 and %v", name, d, most)
		}
	}
	const day = 24 * time.Hour
	bound("reassess", c.Reassess, maxReassess)
	bound("grants.max_ttl", c.Grants.MaxTTL, 7*day)
	bound("grants.pending", c.Grants.Pending, 7*day)
	bound("grants.unused", c.Grants.Unused, 7*day)
	bound("grants.skew", c.Grants.Skew, time.Minute)
	bound("approval.wait", c.Approval.Wait, maxWait)
	bound("approval.timeout", c.Approval.Timeout, day)
	bound("approval.use_within", c.Approval.UseWithin, time.Hour)
	bound("approval.retention", c.Approval.Retention, 30*day)
	bound("risk.fresh_login", c.Risk.FreshLogin, day)
	bound("risk.half_life", c.Risk.HalfLife, day)
	bound("risk.fresh", c.Risk.Fresh, 30*day)
	bound("freshness.revocation", c.Freshness.Revocation, time.Minute)
	bound("freshness.stale_read", c.Freshness.StaleRead, time.Hour)
	for i, p := range c.Policies {
		if p == "" {
			fault("policies[%d]: empty", i)
		}
	}
	for name, n := range map[string]int{"grants.needed": c.Grants.Needed, "approval.needed": c.Approval.Needed} {
		if n < 0 || n > 5 {
			fault("%s: %d is not between 0 and 5", name, n)
		}
	}
	for name, v := range map[string]float64{"risk.step_up": c.Risk.StepUp, "risk.hold": c.Risk.Hold, "risk.deny": c.Risk.Deny} {
		if !(v >= 0 && v <= 100) {
			fault("%s: %v is not between 0 and 100", name, v)
		}
	}
	errs = append(errs, c.lists()...)
	return errors.Join(errs...)
}

// lists checks words, patterns, address ranges and windows.
func (c Config) lists() []error {
	errs := []error{
		checkEffects("grants.require", c.grantEffects()),
		checkEffects("approval.require", c.Approval.Require),
		checkEffects("purpose_for", c.PurposeFor),
		checkPatterns("approval.tools", c.Approval.Tools),
		c.Approval.Webhook.check(),
		checkApprovers("grants.approvers", c.Grants.Approvers),
		checkApprovers("approval.approvers", c.Approval.Approvers),
	}
	for name, p := range c.Purposes {
		if name == "" {
			errs = append(errs, errors.New("purposes: empty name"))
		}
		errs = append(errs, checkEffects("purposes."+name+".effects", p.Effects), checkPatterns("purposes."+name+".tools", p.Tools))
	}
	for effect, list := range c.Attributes.Require {
		errs = append(errs, checkEffects("attributes.require", []string{effect}))
		for _, a := range list {
			if !slices.Contains([]string{attrZone, attrCountry, attrHours, attrPosture}, a) {
				errs = append(errs, fmt.Errorf("attributes.require.%s: %q: want zone, country, hours or posture", effect, a))
			}
		}
	}
	for name, n := range c.Risk.Weights {
		if n < 0 || n > 100 {
			errs = append(errs, fmt.Errorf("risk.weights.%s: %d is not between 0 and 100", name, n))
		}
	}
	_, zones := newPlaces(c.Zones)
	_, countries := newPlaces(c.Countries)
	_, hours := newWeek(c.Hours)
	return append(errs, prefixed("zones", zones), prefixed("countries", countries), prefixed("hours", hours))
}

func prefixed(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// grantEffects are the effects whose calls need a grant.
func (c Config) grantEffects() []string {
	if c.Grants.Require == nil {
		return []string{warder.EffectDestructive.String()}
	}
	return c.Grants.Require
}

func checkEffects(name string, list []string) error {
	for _, e := range list {
		if !slices.Contains([]string{"read", "write", "destructive", "unknown"}, e) {
			return fmt.Errorf("%s: %q: want read, write, destructive or unknown", name, e)
		}
	}
	return nil
}

func checkPatterns(name string, list []string) error {
	for _, p := range list {
		server, tool, ok := strings.Cut(p, "/")
		if !ok || server == "" || tool == "" {
			return fmt.Errorf("%s: %q: want server/tool", name, p)
		}
	}
	return nil
}

func checkApprovers(name string, list []string) error {
	for _, a := range list {
		group, isGroup := strings.CutPrefix(a, "group:")
		if isGroup && group == "" || !isGroup && !strings.Contains(a, "|") {
			return fmt.Errorf("%s: %q: want group:NAME or issuer|subject", name, a)
		}
	}
	return nil
}

// An effects is a set of effects, as bits.
type effects uint8

func effectsOf(list []string) effects {
	var set effects
	for _, name := range list {
		for e := warder.EffectUnknown; e <= warder.EffectDestructive; e++ {
			if e.String() == name {
				set |= 1 << e
			}
		}
	}
	return set
}

func (s effects) has(e warder.Effect) bool { return s&(1<<min(e, warder.EffectDestructive)) != 0 }

// patterns are server/tool pairs; "*" stands for any.
type patterns [][2]string

func patternsOf(list []string) patterns {
	var out patterns
	for _, p := range list {
		server, tool, _ := strings.Cut(p, "/")
		out = append(out, [2]string{server, tool})
	}
	return out
}

func (ps patterns) match(server, tool string) bool {
	for _, p := range ps {
		if (p[0] == "*" || p[0] == server) && (p[1] == "*" || p[1] == tool) {
			return true
		}
	}
	return false
}

// places finds the name of the narrowest address range an address is in.
type places struct {
	bits   []int // prefix lengths that occur, longest first; IPv4 counts from 96
	ranges map[netip.Prefix]string
}

func newPlaces(cfg map[string][]string) (places, error) {
	p := places{ranges: map[netip.Prefix]string{}}
	var errs []error
	for name, list := range cfg {
		if name == "" {
			errs = append(errs, errors.New("empty name"))
		}
		for _, text := range list {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				continue
			}
			prefix = prefix.Masked()
			if other, taken := p.ranges[prefix]; taken && other != name {
				errs = append(errs, fmt.Errorf("%s: %v is also %s", name, prefix, other))
			}
			p.ranges[prefix] = name
			if !slices.Contains(p.bits, prefix.Bits()) {
				p.bits = append(p.bits, prefix.Bits())
			}
		}
	}
	slices.Sort(p.bits)
	slices.Reverse(p.bits)
	return p, errors.Join(errs...)
}

// of returns the name, empty if the address is in no range.
func (p *places) of(addr netip.Addr) string {
	if len(p.ranges) == 0 || !addr.IsValid() {
		return ""
	}
	addr = addr.Unmap().WithZone("")
	for _, bits := range p.bits {
		prefix, err := addr.Prefix(bits)
		if err != nil {
			continue // longer than the address
		}
		if name, ok := p.ranges[prefix]; ok {
			return name
		}
	}
	return ""
}
