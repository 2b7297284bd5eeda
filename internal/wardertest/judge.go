package wardertest

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record"
)

// An answer is what the client saw at the end.
type answer struct {
	status int    // HTTP door only
	text   string // challenge, bodies and events, one a line
}

func (a answer) refused() bool {
	return strings.Contains(a.text, `"error":{`) || strings.Contains(a.text, "Warder refused this call")
}

// refusedBy reports whether the answer names the control and the reason.
func (a answer) refusedBy(control, reason string) bool {
	byError := strings.Contains(a.text, `"control":"`+control+`"`) && (reason == "" || strings.Contains(a.text, `"reason":"`+reason+`"`))
	byResult := strings.Contains(a.text, "("+control+", ") && (reason == "" || strings.Contains(a.text, "/"+reason+","))
	return byError || byResult
}

// try runs the case at one door in one revision and compares the end with what the case wants.
func (r *runner) try(door warder.Door, rev warder.Revision) string {
	r.tried++
	before := r.server.calls()
	r.server.forget()
	r.server.change(r.c.offers())
	r.opened = ""
	got, err := r.play(door, rev)
	if err != nil {
		return err.Error()
	}
	return r.judge(door, got, r.server.calls() > before)
}

// offers is the list of tools that a run begins with.
func (c *testCase) offers() string {
	if own := c.sections["tools"]; own != "" {
		return own
	}
	return "[" + echoTool + "]"
}

// judge compares an answer with what the case wants.
func (r *runner) judge(door warder.Door, got answer, forwarded bool) string {
	c, saw := r.c, r.server.saw()
	shown := fmt.Sprintf("status %d, forwarded %v, answer %.1500s", got.status, forwarded, got.text)
	for _, check := range []struct {
		key, text, what string
		want            bool
	}{
		{"contains", got.text, "the answer", true},
		{"absent", got.text, "the answer", false},
		{"hello_contains", r.opened + got.text, "the opening", true},
		{"hello_absent", r.opened + got.text, "the opening", false},
		{"server_saw", saw, "what the server saw", true},
		{"server_missed", saw, "what the server saw", false},
	} {
		for _, text := range c.keys[check.key] {
			switch has := strings.Contains(check.text, text); {
			case has && !check.want:
				return fmt.Sprintf("%s has %q: %s; %s", check.what, text, shown, tail(check.text))
			case !has && check.want:
				return fmt.Sprintf("%s lacks %q: %s; %s", check.what, text, shown, tail(check.text))
			}
		}
	}
	if want := c.number("status", 0); want != 0 && door == warder.DoorHTTP && got.status != want {
		return fmt.Sprintf("want status %d: %s", want, shown)
	}
	if want := c.key("forwarded", ""); want != "" && (want == "yes") != forwarded {
		return fmt.Sprintf("want forwarded %s: %s", want, shown)
	}
	if c.refuses() && c.key("named", "yes") != "no" {
		control, reason := c.key("control", string(c.id)), c.key("reason", "")
		if !got.refusedBy(control, reason) {
			return fmt.Sprintf("want a refusal by %s (%s): %s", control, reason, shown)
		}
	}
	if c.key("kind", "") != "deny" && got.refused() {
		return "refused: " + shown
	}
	return ""
}

// tail is the end of a text, which is what failed last.
func tail(text string) string { return text[max(0, len(text)-400):] }

// refuses reports whether the case wants an answer that names the control. A control that takes
// something out, rather than refusing, is seen by what is absent, or by what the server did not see.
func (c *testCase) refuses() bool {
	return c.key("kind", "") == "deny" &&
		len(c.keys["absent"])+len(c.keys["hello_absent"])+len(c.keys["server_missed"])+len(c.keys["server_saw"]) == 0
}

// audited checks that the trail tells of the refusals.
func (r *runner) audited() string {
	if !r.c.refuses() {
		return ""
	}
	trail, err := record.Open(filepath.Join(r.dir, "audit"))
	if err != nil {
		return "open the trail: " + err.Error()
	}
	control, reason := warder.ControlID(r.c.key("control", string(r.c.id))), warder.Reason(r.c.key("reason", ""))
	found := 0
	for e, err := range trail.Events(record.Filter{}) {
		if err != nil {
			return "read the trail: " + err.Error()
		}
		if e.Type == warder.EventExchange && e.Control == control && e.Outcome == warder.OutcomeRefused && (reason == "" || e.Reason == reason) {
			found++
		}
	}
	if found < r.tried {
		return fmt.Sprintf("the trail tells of %d refusals by %s (%s), want %d", found, control, reason, r.tried)
	}
	return ""
}
