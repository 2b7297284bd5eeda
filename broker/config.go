package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Config says how long things live and who may decide. The zero value of each field is its default.
type Config struct {
	Grants    GrantConfig
	Approvals ApprovalConfig
	Risk      RiskConfig
	Aliases   []Alias // people who have two names: nobody decides on what they asked for under the other one
}

// An Alias says that people whose name begins with one text are known by another: "issuer|subject" with
// Begins at its beginning is the same person as with Is there instead.
type Alias struct{ Begins, Is string }

// canonical is the one of a person's names ("issuer|subject") that all are compared by.
func (c *Config) canonical(name string) string {
	for _, a := range c.Aliases {
		if rest, ok := strings.CutPrefix(name, a.Begins); ok {
			return a.Is + rest
		}
	}
	return name
}

// same reports whether a person is the one of a name.
func (c *Config) same(p Person, name string) bool {
	return c.canonical(p.String()) == c.canonical(name)
}

// voted reports whether a person is among those who agreed.
func (c *Config) voted(votes []Vote, p Person) bool {
	return slices.ContainsFunc(votes, func(v Vote) bool { return c.same(p, v.By) })
}

// A GrantConfig bounds grants.
type GrantConfig struct {
	MaxTTL    time.Duration // longest life of a grant or plan; default 8h, at most 7 days
	Pending   time.Duration // how long a request waits for approval; default 24h
	Skew      time.Duration // how far the clocks of replicas may differ; default 5s, at most 1m
	Unused    time.Duration // an approved grant that nobody used for so long from its start collapses; default 30m
	Approvers []string      // who may approve: "group:NAME" or "issuer|subject"; default every operator
	Needed    int           // how many people must approve; default 1, at most 5
	Self      bool          // the one who asked may approve
}

// An ApprovalConfig bounds calls that wait for a person.
type ApprovalConfig struct {
	Approvers []string      // who may decide, unless the call's own rule says; as in GrantConfig
	Needed    int           // how many people must approve one call; default 1, at most 5
	Self      bool          // the caller may approve the own call
	Timeout   time.Duration // to decide; default 5m, at most 24h. Then it is denied
	UseWithin time.Duration // to use an approval; default 2m, at most 1h
	Retention time.Duration // how long a decided call can still be shown; default 24h, at most 30 days
	Pending   int           // calls of one person that wait at a time; default 5
	PerHour   int           // calls of one person that may be put to people in an hour; default 30
	Queue     int           // calls that wait at one rule of approvers at a time; default 50. A fifth is kept for the risky
	Critical  int           // risk from which a call counts as critical in the queue; default 70
}

// A RiskConfig sets the running score of callers.
type RiskConfig struct {
	HalfLife time.Duration  // a score halves in this time; default 10m, at most 24h
	Weights  map[string]int // points a signal adds, by its word; see DefaultWeights
	Share    float64        // score from which a rise is told to the other replicas; default 20
	Fresh    time.Duration  // how long a report about a device's posture counts; default 24h, at most 30 days
}

// fill sets defaults and reports every fault.
func (c Config) fill() (Config, error) {
	var errs []error
	duration := func(name string, d *time.Duration, def, most time.Duration) {
		if *d == 0 {
			*d = def
		}
		if *d < 0 || *d > most {
			errs = append(errs, fmt.Errorf("%s: %v is not between 0 and %v", name, *d, most))
		}
	}
	number := func(name string, n *int, def, most int) {
		if *n == 0 {
			*n = def
		}
		if *n < 1 || *n > most {
			errs = append(errs, fmt.Errorf("%s: %d is not between 1 and %d", name, *n, most))
		}
	}
	const day = 24 * time.Hour
	duration("grants.max_ttl", &c.Grants.MaxTTL, 8*time.Hour, 7*day)
	duration("grants.pending", &c.Grants.Pending, day, 7*day)
	duration("grants.skew", &c.Grants.Skew, 5*time.Second, time.Minute)
	duration("grants.unused", &c.Grants.Unused, 30*time.Minute, 7*day)
	number("grants.needed", &c.Grants.Needed, 1, maxNeeded)
	duration("approval.timeout", &c.Approvals.Timeout, 5*time.Minute, day)
	duration("approval.use_within", &c.Approvals.UseWithin, 2*time.Minute, time.Hour)
	duration("approval.retention", &c.Approvals.Retention, day, 30*day)
	number("approval.needed", &c.Approvals.Needed, 1, maxNeeded)
	number("approval.rate.pending", &c.Approvals.Pending, 5, 1000)
	number("approval.rate.per_hour", &c.Approvals.PerHour, 30, 100_000)
	number("approval.rate.queue", &c.Approvals.Queue, 50, 100_000)
	number("approval.rate.critical", &c.Approvals.Critical, 70, 100)
	duration("risk.half_life", &c.Risk.HalfLife, 10*time.Minute, day)
	duration("risk.fresh", &c.Risk.Fresh, day, 30*day)
	if c.Risk.Share == 0 {
		c.Risk.Share = 20
	}
	return c, errors.Join(errs...)
}

const maxNeeded = 5
