package output

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// hygiene takes the inside of a server out of its errors: stack traces, paths, internal addresses,
// versions, texts of databases. It judges JSON-RPC errors and tool results with isError; results
// that are no errors are other controls' business. What the client sent itself stays.
// Control OUT-04; OWASP ASVS 16.5.1, CWE-209. Phase Response.
type hygiene struct{ clean *cleaner }

var _ warder.Interceptor = (*hygiene)(nil)

// Control names the control.
func (*hygiene) Control() warder.ControlID { return "OUT-04" }

// Intercept judges one message of the answer.
func (h *hygiene) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	if m == nil || h.clean == nil {
		return warder.Decision{}, errors.New("judge error: no message or no rules")
	}
	c := correction{clean: h.clean, message: m, left: maxTexts * h.clean.longest}
	if x.Request != nil {
		c.said.said = x.Request.Raw
	}
	switch m.Kind {
	case warder.KindError:
		c.failure()
	case warder.KindResult:
		if failed, _ := wire.At(m, m.Result.Get("isError")).Bool(); !failed {
			return warder.Continue(), nil
		}
		c.toolError()
	case warder.KindRequest, warder.KindNotification:
	}
	if len(c.edits) == 0 {
		return warder.Continue(), nil
	}
	out, err := wire.Splice(m, limitsFor(m), c.edits...)
	if err != nil {
		return warder.Decision{}, fmt.Errorf("clean error: %w", err)
	}
	x.Response = out
	return warder.Observe(c.findings...), nil
}

// A correction collects the edits of one message.
type correction struct {
	clean    *cleaner
	message  *warder.Message
	said     heard // what the client sent: not a secret of the server
	left     int   // bytes of texts that are still read
	edits    []wire.Edit
	findings []warder.Finding
}

// maxFindings bounds what one message adds to the record.
const maxFindings = 16

// maxTexts is how many texts of the longest size are read in one error. It is cut behind them: an error
// of megabytes is no error message, and reading it with every pattern takes seconds.
const maxTexts = 16

// read takes the length of a text off what is still read; false when that is used up.
func (c *correction) read(text string) bool {
	c.left -= min(len(text), c.clean.longest)
	return c.left >= 0
}

// text cleans one string and reports whether it had to be.
func (c *correction) text(v wire.Value, pointer string) bool {
	original, ok := v.Text()
	if !ok {
		return false
	}
	cleaned, rules := markCut, []string{"length"}
	if c.read(original) {
		cleaned, rules = c.clean.clean(original, &c.said)
	}
	if len(rules) == 0 || original == markCut {
		return false
	}
	c.edits = append(c.edits, wire.Edit{At: v.Span(), New: wire.Quote(cleaned)})
	c.found(pointer, original, rules)
	return true
}

func (c *correction) found(pointer, original string, rules []string) {
	for _, rule := range rules {
		if len(c.findings) < maxFindings {
			c.findings = append(c.findings, warder.Finding{
				Rule: "internals." + rule, Severity: warder.Low, Pointer: pointer, Evidence: evidence(original),
			})
		}
	}
}

// failure cleans a JSON-RPC error. An error that told of the inside gets the code of an internal
// error, unless its code is one of the protocol: codes of databases and frameworks tell as much.
func (c *correction) failure() {
	m := c.message
	code, message, data := wire.At(m, m.Failure.Get("code")), wire.At(m, m.Failure.Get("message")), m.Failure.Get("data")
	dirty := c.text(message, "/error/message")
	n, _ := code.Int()
	if data.Present() && !protocolData(n) && c.tells(wire.At(m, data)) {
		dirty = true
		c.edits = append(c.edits, wire.RemoveMembers(m, m.Failure, m.ErrorSpan, "data")...)
		c.found("/error/data", string(m.At(data)), []string{"data"})
	}
	if !dirty || protocolCode(n) {
		return
	}
	c.edits = append(c.edits, wire.Edit{At: code.Span(), New: strconv.AppendInt(nil, warder.RPCInternal, 10)})
}

// tells reports whether data holds a member made for debugging, or a text that tells of the inside.
func (c *correction) tells(data wire.Value) bool {
	for key, member := range data.Members() {
		if c.clean.debug(key.Unescaped()) || c.tells(member) {
			return true
		}
	}
	for _, element := range data.Elements() {
		if c.tells(element) {
			return true
		}
	}
	if text, ok := data.Text(); ok {
		if !c.read(text) {
			return true
		}
		_, rules := c.clean.clean(text, &c.said)
		return len(rules) > 0
	}
	return false
}

// toolError cleans the texts of a tool result that is an error, and leaves its structured content
// out if that tells of the inside.
func (c *correction) toolError() {
	m := c.message
	for i, block := range wire.At(m, m.Result.Get("content")).Elements() {
		pointer := "/result/content/" + strconv.Itoa(i)
		c.text(block.Get("text"), pointer+"/text")
		c.text(block.Get("resource").Get("text"), pointer+"/resource/text")
	}
	structured := m.Result.Get("structuredContent")
	if structured.Present() && c.tells(wire.At(m, structured)) {
		c.edits = append(c.edits, wire.RemoveMembers(m, m.Result, m.ResultSpan, "structuredContent")...)
		c.found("/result/structuredContent", string(m.At(structured)), []string{"data"})
	}
}

// protocolCode reports whether a code is one that JSON-RPC 2.0 or a revision defines.
func protocolCode(code int64) bool {
	switch code {
	case warder.RPCParse, warder.RPCInvalidRequest, warder.RPCMethodNotFound, warder.RPCInvalidParams, warder.RPCInternal,
		warder.RPCResourceNotFound, urlElicitationRequired:
		return true
	default:
		return protocolData(code)
	}
}

// urlElicitationRequired is the code of URLElicitationRequiredError (2025-11-25).
const urlElicitationRequired = -32042

// protocolData reports whether the data of an error with this code is part of the protocol.
func protocolData(code int64) bool {
	switch code {
	case warder.RPCHeaderMismatch, warder.RPCMissingCapability, warder.RPCUnsupported, urlElicitationRequired:
		return true
	default:
		return false
	}
}
