package record

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/warder-mcp/warder"
)

// AppendEvent appends the JSON document of an event: the members of [warder.Event] as encoding/json
// writes them, then trail and decisions. It uses no reflection and allocates nothing beyond dst.
//
// The trail is one string: for each phase its word and the controls that ran as id:nanoseconds, with
// the verdict added where it was not a plain pass:
//
//	connect NET-05:310 IAM-05:1210;request GW-01:420 CVM-01:9000:deny
func AppendEvent(dst []byte, e *warder.Event) []byte {
	w := encoder{b: append(dst, '{')}
	w.text("id", e.ID, true)
	w.moment("time", e.Time)
	w.text("type", string(e.Type), true)
	w.text("exchange", e.Exchange, false)
	w.text("parent", e.Parent, false)
	w.text("trace_id", e.TraceID, false)
	w.text("door", string(e.Door), false)
	w.text("revision", string(e.Revision), false)
	w.text("peer", e.Peer, false)
	w.principal(e.Principal)
	w.text("endpoint", e.Endpoint, false)
	w.text("server", e.Server, false)
	w.text("method", e.Method, false)
	w.text("target", e.Target, false)
	w.text("digest", e.Digest, false)
	w.text("effect", e.Effect, false)
	w.circumstances(e.Circumstances)
	w.obligations(e.Obligations)
	w.text("approval", e.Approval, false)
	w.text("request_hash", e.RequestHash, false)
	w.text("outcome", string(e.Outcome), false)
	w.text("code", string(e.Code), false)
	w.text("reason", string(e.Reason), false)
	w.text("control", string(e.Control), false)
	w.findings(e.Findings)
	w.list("policies", e.Policies)
	w.flag("forwarded", e.Forwarded)
	w.number("messages", int64(e.Messages))
	w.number("bytes_in", e.BytesIn)
	w.number("bytes_out", e.BytesOut)
	w.number("duration_us", e.DurationUS)
	w.text("config_digest", e.ConfigDigest, false)
	w.text("detail", e.Detail, false)
	w.trail(e.Trail)
	w.decisions(e.Decisions)
	return append(w.b, '}')
}

// An encoder appends members of one object. Values that are empty are left out.
type encoder struct{ b []byte }

func (w *encoder) key(k string) {
	if last := w.b[len(w.b)-1]; last != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, k...)
	w.b = append(w.b, '"', ':')
}

func (w *encoder) text(k, v string, always bool) {
	if v != "" || always {
		w.key(k)
		w.b = appendString(w.b, v)
	}
}

func (w *encoder) moment(k string, t time.Time) {
	w.key(k)
	w.b = append(w.b, '"')
	w.b = t.AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
}

func (w *encoder) number(k string, v int64) {
	if v != 0 {
		w.key(k)
		w.b = strconv.AppendInt(w.b, v, 10)
	}
}

func (w *encoder) flag(k string, v bool) {
	if v {
		w.key(k)
		w.b = append(w.b, "true"...)
	}
}

func (w *encoder) list(k string, vs []string) {
	if len(vs) == 0 {
		return
	}
	w.key(k)
	sep := byte('[')
	for _, v := range vs {
		w.b = append(w.b, sep)
		w.b = appendString(w.b, v)
		sep = ','
	}
	w.b = append(w.b, ']')
}

func (w *encoder) principal(p *warder.EventPrincipal) {
	if p == nil {
		return
	}
	w.key("principal")
	w.b = append(w.b, '{')
	w.text("issuer", p.Issuer, false)
	w.text("subject", p.Subject, false)
	w.text("tenant", p.Tenant, false)
	w.text("client", p.Client, false)
	w.text("agent", p.Agent, false)
	w.text("token_id", p.TokenID, false)
	w.list("groups", p.Groups)
	w.list("scopes", p.Scopes)
	w.list("actors", p.Actors)
	w.text("acr", p.ACR, false)
	w.list("amr", p.AMR)
	if !p.AuthTime.IsZero() {
		w.moment("auth_time", p.AuthTime)
	}
	w.text("transport", p.Transport, false)
	w.flag("bound", p.Bound)
	w.b = append(w.b, '}')
}

func (w *encoder) circumstances(c *warder.Circumstances) {
	if c == nil {
		return
	}
	w.key("circumstances")
	w.b = append(w.b, '{')
	w.text("zone", c.Zone, false)
	w.text("country", c.Country, false)
	w.text("posture", c.Posture, false)
	w.text("purpose", c.Purpose, false)
	w.number("risk", int64(c.Risk))
	w.number("trust", int64(c.Trust))
	w.list("labels", c.Labels)
	if g := c.Grant; g != nil {
		w.key("grant")
		w.b = append(w.b, '{')
		w.text("id", g.ID, true)
		w.text("purpose", g.Purpose, false)
		if !g.NotAfter.IsZero() {
			w.moment("not_after", g.NotAfter)
		}
		w.text("plan", g.Plan, false)
		w.number("step", int64(g.Step))
		w.b = append(w.b, '}')
	}
	if a := c.Agent; a != nil {
		w.key("agent")
		w.b = append(w.b, '{')
		w.text("name", a.Name, true)
		w.text("owner", a.Owner, false)
		w.list("roles", a.Roles)
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, '}')
}

func (w *encoder) obligations(list []warder.Obligation) {
	if len(list) == 0 {
		return
	}
	w.key("obligations")
	sep := byte('[')
	for i := range list {
		w.b = append(w.b, sep, '{')
		w.text("kind", string(list[i].Kind), true)
		w.text("value", list[i].Value, false)
		w.text("policy", list[i].Policy, false)
		w.b = append(w.b, '}')
		sep = ','
	}
	w.b = append(w.b, ']')
}

func (w *encoder) findings(fs []warder.Finding) {
	if len(fs) == 0 {
		return
	}
	w.key("findings")
	sep := byte('[')
	for i := range fs {
		f := &fs[i]
		w.b = append(w.b, sep, '{')
		w.text("control", string(f.Control), false)
		w.text("rule", f.Rule, true)
		w.key("severity")
		w.b = strconv.AppendUint(w.b, uint64(f.Severity), 10)
		w.text("pointer", f.Pointer, false)
		w.text("evidence", f.Evidence, false)
		if f.Confidence != 0 {
			w.key("confidence")
			w.b = appendFloat(w.b, f.Confidence)
		}
		w.b = append(w.b, '}')
		sep = ','
	}
	w.b = append(w.b, ']')
}

func (w *encoder) trail(steps []warder.Step) {
	if len(steps) == 0 {
		return
	}
	w.key("trail")
	w.b = append(w.b, '"')
	w.b = appendTrail(w.b, steps)
	w.b = append(w.b, '"')
}

// maxSteps bounds the trail of one record; a long stream runs its Response controls once a message.
const maxSteps = 512

func appendTrail(b []byte, steps []warder.Step) []byte {
	var phase warder.Phase // of the step before
	for i := range steps[:min(len(steps), maxSteps)] {
		s := &steps[i]
		switch {
		case i == 0:
			b = append(append(b, s.Phase.String()...), ' ')
		case s.Phase != phase:
			b = append(append(append(b, ';'), s.Phase.String()...), ' ')
		default:
			b = append(b, ' ')
		}
		phase = s.Phase
		b = append(append(b, s.Control...), ':')
		b = strconv.AppendInt(b, s.Took.Nanoseconds(), 10)
		if s.Verdict != warder.Pass {
			b = append(append(b, ':'), s.Verdict.String()...)
		}
	}
	if more := len(steps) - maxSteps; more > 0 {
		b = append(b, ";more "...)
		b = strconv.AppendInt(b, int64(more), 10)
	}
	return b
}

func (w *encoder) decisions(ds []warder.Decision) {
	if len(ds) == 0 {
		return
	}
	w.key("decisions")
	sep := byte('[')
	for i := range ds {
		d := &ds[i]
		w.b = append(w.b, sep, '{')
		w.text("control", string(d.Control), true)
		w.text("verdict", d.Verdict.String(), true)
		w.text("code", string(d.Code), false)
		w.text("reason", string(d.Reason), false)
		w.text("detail", d.Detail, false)
		w.text("public", d.Public, false)
		w.list("policies", d.Policies)
		w.flag("observed", d.Observed)
		w.b = append(w.b, '}')
		sep = ','
	}
	w.b = append(w.b, ']')
}

// appendString writes a JSON string as encoding/json does, with <, > and & escaped so that a record
// is safe inside HTML.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			b = appendEscape(b, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if (r == utf8.RuneError && size == 1) || r == '\u2028' || r == '\u2029' {
			b = append(b, s[start:i]...)
			b = append(b, '\\', 'u')
			b = appendHex4(b, r)
			start = i + size
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	default:
		return appendHex4(append(b, '\\', 'u'), rune(c))
	}
}

func appendHex4(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// appendFloat writes a number as encoding/json does (ECMAScript form).
func appendFloat(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, '0')
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, 64)
	if n := len(b); format == 'e' && n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b
}
