package input

import (
	"strings"
	"testing"
	"time"
)

// A schema that allows more than the caps must not make every allowed value cost a reading of the message.
func TestAttackManyAllowedNumbers(t *testing.T) {
	t.Parallel()
	const schema = `{"type":"object","properties":{"a":{"type":"array","maxItems":1000000,"items":{"type":"number","minimum":-1e300,"maximum":1e300}}}}`
	x := sent(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":[`+
		strings.TrimSuffix(strings.Repeat("1e30,", 200_000), ",")+`]},`+modernMeta+`}}`)
	x.Tool = approved(t, schema, "")
	start := time.Now()
	d, err := newCaps(Default()).Intercept(t.Context(), x)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	t.Logf("%s %s %v in %s", d.Verdict, d.Reason, err, time.Since(start))
}
