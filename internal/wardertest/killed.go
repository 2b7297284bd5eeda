package wardertest

import (
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/app"
)

// A Gateway is the system of a case whose dependencies a test can break.
type Gateway struct {
	Data   string   // its data folder
	App    *app.App // the gateway itself
	Server *server
}

// FailLists makes every list of the server fail from now on.
func (g *Gateway) FailLists() { g.Server.fail() }

// Killed runs a case given as text after breaking something the control depends on: the case must be
// of kind deny and say who refuses.
func Killed(t *testing.T, id warder.ControlID, text string, breaks func(*Gateway)) {
	t.Helper()
	c, err := parse(id, strings.ToLower(string(id))+"_killed", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if c.key("kind", "") != "deny" {
		t.Fatalf("kind %q: without a dependency only a refusal will do", c.key("kind", ""))
	}
	for _, problem := range c.run(t, false, breaks) {
		t.Error(problem)
	}
}
