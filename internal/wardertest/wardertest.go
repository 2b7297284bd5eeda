// Package wardertest runs the cases of a control through the real system: a whole gateway built from a
// configuration, a real MCP server behind it, every protocol revision, HTTP and stdio doors.
//
// A case is a txtar file under testdata/<id>/ beside the control. Its comment holds "key: value" lines:
//
//	kind: pass | near_miss | deny   what the case shows
//	control: IAM-05                 the control expected to refuse; default: the one under test
//	reason: audience_mismatch       the reason expected of it
//	status: 401                     HTTP status expected (HTTP door only)
//	contains: text                  the answer has this text; may stand several times
//	absent: text                    the answer does not have this text; may stand several times
//	forwarded: yes | no             the server was, or was not, asked
//	doors: http stdio               doors to try; default both
//	revisions: 2025-06-18 ...       revisions to try; default all
//	approve: all | none             definitions approved beforehand; default all, with effect read
//	effect: read | write ...        the effect they are approved with
//	repeat: 30                      send the message so often; the last answer counts
//	list_first: yes                 read tools/list before the message
//	capabilities: {"sampling":{}}   what the client declares; default {}
//	client: name                    what the client calls itself; default case
//	endpoint: name                  the endpoint asked for; default s
//	query: a=b                      query of the URL; {{token}} stands for the caller's token
//	answers: no                     the client does not answer the server's questions
//	era: auto | modern | legacy     which eras of the server the gateway uses; default auto
//	peer: 192.0.2.7:40000           the HTTP client is as if it called from there
//	tls: 1.2 | 1.3                  the HTTP door speaks TLS of at most this version
//	certificate: spiffe://a/b       the client shows such a certificate, of the authority %CA%; or a common
//	                                name, foreign (of another authority), or none; with tls only
//	server_saw: text                something that reached the server has this text
//	server_missed: text             nothing that reached the server has this text
//	hello_contains, hello_absent    as contains and absent, for the opening of a session or the answer
//	named: no                       the protocol leaves no room for the control in this refusal; the trail names it
//	fresh: yes                      a new gateway for every door and revision
//	mutation: none                  deny only: another control refuses the same; says which in "because"
//
// Its sections are all optional:
//
//	-- config --         YAML; each top-level key replaces that of the base configuration
//	-- token --          JSON: subject, audience, groups, scopes, client, agent, foreign, tampered, claims
//	                     (an object of further claims), auth_age (time since the login), lifetime, certificate
//	                     (own: bound to the client's certificate); or none
//	-- proof --          JSON, may be empty: the token is bound to a key and shown with DPoP proofs; method,
//	                     url, token, age, key (other), scheme, count, again, nonce change the proofs
//	-- headers --        HTTP headers; an empty value removes one
//	-- grants --         access that is granted beforehand, one a line: {"principal":"group:dev","server":"s",
//	                     "tools":["echo"],"agent":"","purpose":"","ttl":"1h","uses":0}
//	-- plan --           a plan that is approved beforehand: {"principal":"group:dev","ttl":"1h","tools":["a","b"]}
//	-- request --        the message without jsonrpc, id and the _meta members of the revision
//	-- raw --            the body verbatim, {{meta}} stands for the _meta members of the revision
//	-- script --         several messages, see below
//	-- tools --          JSON array of the server's tool definitions; default one tool "echo"
//	-- hello --          JSON members that replace those of what the server says of itself
//	-- result --         the result of calls; default a text
//	-- result METHOD --  the result of this method, lists included
//	-- answer --         the server's whole answer to the message, {{id}} stands for its id
//	-- before --         messages that the server sends before its answer, one a line
//	-- question --       questions that the server asks before its answer, one a line: method and params
//	-- reply METHOD --   the client's result for such a question
//
// A script does one thing a line. The last answer counts, with what came on streams:
//
//	send {...}       a message of the caller ada, like the request section; {{state}} is the last requestState
//	as bob {...}     a message of another caller, with a session of its own (HTTP only)
//	steal bob {...}  a message of another caller with the session of ada (HTTP only)
//	open             ada opens a stream for what the server sends outside calls
//	push {...}       the server sends a notification on its streams
//	await text       until the stream has this text
//	tools [...]      the server's definitions change
//	wait 50ms
//	approve          an operator approves every call that waits
//	refuse           an operator denies every call that waits
//	revoke KIND VALUE   something is revoked, such as "revoke tool s/echo"; {{caller}} stands for ada at this door
//	posture WORD     ada's device reports that it is compliant or not_compliant
//
// The mutation check runs every deny case again with the control switched off: the case must then fail.
package wardertest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/warder-mcp/warder"
)

// A testCase is one parsed file.
type testCase struct {
	name     string
	id       warder.ControlID // the control under test
	keys     map[string][]string
	sections map[string]string
}

func (c *testCase) key(name, def string) string {
	if v := c.keys[name]; len(v) > 0 {
		return v[0]
	}
	return def
}

func (c *testCase) number(name string, def int) int {
	n, err := strconv.Atoi(c.key(name, ""))
	if err != nil {
		return def
	}
	return n
}

func (c *testCase) doors() []warder.Door {
	var out []warder.Door
	for d := range strings.FieldsSeq(c.key("doors", "http stdio")) {
		if d == "http" {
			out = append(out, warder.DoorHTTP)
		} else {
			out = append(out, warder.DoorStdio)
		}
	}
	return out
}

func (c *testCase) revisions() []warder.Revision {
	list := strings.Fields(c.key("revisions", ""))
	if len(list) == 0 {
		return warder.Revisions()
	}
	var out []warder.Revision
	for _, r := range list {
		out = append(out, warder.Revision(r))
	}
	return out
}

// knownKeys of the comment; a misspelt one is an error, not a silent default.
func knownKeys() []string {
	return []string{
		"kind", "control", "reason", "status", "contains", "absent", "forwarded", "doors", "revisions", "approve",
		"effect", "repeat", "list_first", "capabilities", "client", "endpoint", "query", "answers", "era", "peer", "tls", "certificate",
		"server_saw", "server_missed", "hello_contains", "hello_absent", "named", "fresh", "mutation", "because",
	}
}

func knownSections() []string {
	return []string{
		"config", "token", "proof", "headers", "grants", "plan", "request", "raw", "script", "tools", "hello", "result", "answer", "before", "question",
	}
}

// known reports whether a section is one of those, or belongs to a method.
func known(section string) bool {
	kind, method, ok := strings.Cut(section, " ")
	return slices.Contains(knownSections(), section) || ok && method != "" && (kind == "result" || kind == "reply")
}

// parse reads one case.
func parse(id warder.ControlID, name string, data []byte) (*testCase, error) {
	a := txtar.Parse(data)
	c := &testCase{name: name, id: id, keys: make(map[string][]string), sections: make(map[string]string)}
	for line := range strings.Lines(string(a.Comment)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || !slices.Contains(knownKeys(), key) {
			return nil, fmt.Errorf("%s: unknown line %q", name, line)
		}
		c.keys[key] = append(c.keys[key], strings.TrimSpace(value))
	}
	for _, f := range a.Files {
		if !known(f.Name) {
			return nil, fmt.Errorf("%s: unknown section %q", name, f.Name)
		}
		c.sections[f.Name] = strings.TrimSpace(string(f.Data))
	}
	switch kind := c.key("kind", ""); kind {
	case "pass", "near_miss", "deny":
	default:
		return nil, fmt.Errorf("%s: kind %q, want pass, near_miss or deny", name, kind)
	}
	if c.key("mutation", "") != "" && (c.key("mutation", "") != "none" || c.key("because", "") == "") {
		return nil, fmt.Errorf("%s: mutation can only be none, and needs a \"because\"", name)
	}
	return c, nil
}

// All runs the cases of every control of a layer: each folder under testdata that is named after a
// control, such as testdata/prt02.
func All(t *testing.T) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join("testdata", "*"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, dir := range dirs {
		name := filepath.Base(dir)
		letters := strings.TrimRight(name, "0123456789")
		if letters == name || letters != strings.ToLower(letters) {
			continue // not a control: fuzz corpora and the like
		}
		found++
		id := warder.ControlID(strings.ToUpper(letters) + "-" + name[len(letters):])
		t.Run(string(id), func(t *testing.T) { Cases(t, id, dir) })
	}
	if found == 0 {
		t.Error("no cases under testdata")
	}
}

// Cases runs every case of a control and the mutation check over its deny cases. dir is the folder of
// the cases, relative to the test.
func Cases(t *testing.T, id warder.ControlID, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	seen := make(map[string]bool)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parse(id, strings.TrimSuffix(filepath.Base(file), ".txtar"), data)
		if err != nil {
			t.Fatal(err)
		}
		kind := c.key("kind", "")
		seen[kind] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, problem := range c.run(t, false, nil) {
				t.Error(problem)
			}
		})
		if kind == "deny" && c.key("mutation", "") != "none" {
			t.Run(c.name+"/mutation", func(t *testing.T) {
				t.Parallel()
				c.mutate(t)
			})
		}
	}
	for _, kind := range []string{"pass", "near_miss", "deny"} {
		if !seen[kind] {
			t.Errorf("%s has no case of kind %s", id, kind)
		}
	}
}

// mutate runs a deny case without the control: it must fail behind every door and in every revision,
// or the case would not notice the control's absence.
func (c *testCase) mutate(t *testing.T) {
	t.Helper()
	failed := len(c.run(t, true, nil))
	if want := len(c.runs()); failed < want {
		t.Errorf("with %s off only %d of %d runs noticed: the case passes without its control", c.id, failed, want)
	}
}
