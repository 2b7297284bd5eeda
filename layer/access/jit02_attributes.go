package access

import (
	"context"
	"fmt"
	"math"

	"github.com/warder-mcp/warder"
)

// Names of circumstances that may be required.
const (
	attrZone    = "zone"
	attrCountry = "country"
	attrHours   = "hours"
	attrPosture = "posture"
)

// surroundings tells policy where, when and on what a call is made.
type surroundings struct {
	deps      *Deps
	zones     places
	countries places
	week      *week
	required  [4][]string // by effect: circumstances that must be known and good
}

func newSurroundings(cfg Config, deps *Deps) (*surroundings, error) {
	zones, err := newPlaces(cfg.Zones)
	if err != nil {
		return nil, fmt.Errorf("zones: %w", err)
	}
	countries, err := newPlaces(cfg.Countries)
	if err != nil {
		return nil, fmt.Errorf("countries: %w", err)
	}
	hours, err := newWeek(cfg.Hours)
	if err != nil {
		return nil, fmt.Errorf("hours: %w", err)
	}
	s := &surroundings{deps: deps, zones: zones, countries: countries, week: hours}
	for name, list := range cfg.Attributes.Require {
		for e := warder.EffectUnknown; e <= warder.EffectDestructive; e++ {
			if e.String() == name {
				s.required[e] = list
			}
		}
	}
	return s, nil
}

// describe adds what is known of the surroundings to a question. What is not known stays empty, and a
// policy that names it fails, which denies.
func (s *surroundings) describe(x *warder.Exchange, c *Context) {
	peer := x.Conn.Peer.Addr()
	c.Zone, c.Country = s.zones.of(peer), s.countries.of(peer)
	m := s.week.at(c.Now)
	c.Hours, c.Hour, c.Weekday = m.open, m.hour, m.weekday
	if s.deps.Posture != nil {
		c.Posture = s.deps.Posture.Of(x.Principal)
	}
	if s.deps.Trust != nil && x.Tool != nil {
		c.Trust = s.deps.Trust(x.Tool.Server, x.Tool.Name)
	}
	c.Risk = int(math.Ceil(x.Risk))
	c.Grant = x.Grant
	if c.Purpose = x.Purpose; c.Purpose == "" && x.Request != nil {
		c.Purpose, _ = purposeOf(x)
	}
	if x.Principal != nil {
		c.Agent = x.Principal.Registered
	}
}

// lacking returns the first required circumstance of a tool call that is unknown or bad.
func (s *surroundings) lacking(x *warder.Exchange) string {
	if !callsTool(x) {
		return ""
	}
	list := s.required[effectOf(x)]
	if len(list) == 0 {
		return ""
	}
	c := Context{Now: s.deps.Now()}
	s.describe(x, &c)
	for _, name := range list {
		good := false
		switch name {
		case attrZone:
			good = c.Zone != ""
		case attrCountry:
			good = c.Country != ""
		case attrHours:
			good = len(c.Hours) > 0
		case attrPosture:
			good = c.Posture == "compliant"
		}
		if !good {
			return name
		}
	}
	return ""
}

// attributes refuses calls whose circumstances are not known well enough for their effect. What the
// circumstances mean for a call that has them is for policy to say: they are part of its question.
// Control JIT-02; NIST SP 800-207 section 2.1 tenet 4, NIST SP 800-162. Phase Request.
type attributes struct{ around *surroundings }

var _ warder.Interceptor = (*attributes)(nil)

// Control returns JIT-02.
func (*attributes) Control() warder.ControlID { return "JIT-02" }

// Intercept looks at what the effect of the call requires.
func (a *attributes) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if name := a.around.lacking(x); name != "" {
		return warder.Refuse(warder.CodeDenied, warder.Reason("attribute_"+name), "the circumstance is unknown or not good enough for this effect"), nil
	}
	return warder.Continue(), nil
}
