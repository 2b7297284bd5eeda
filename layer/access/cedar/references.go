package cedar

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/warder-mcp/warder/wire"
)

// A World is what policies can name: the servers of the configuration and the definitions of the
// registry. Names that are not in it are typing errors, which a policy would keep silent about: what it
// forbids would never match.
type World struct {
	Servers []string
	Groups  []string // endpoints that aggregate servers
	Tools   []Definition
	Prompts []Definition
	Unseen  []string // servers whose definitions are not known: they are not checked
}

// A Definition is a tool or prompt that a policy may name.
type Definition struct {
	Server, Name string
	// Schema is the tool's inputSchema as JSON; nil if the arguments are not known.
	Schema []byte
	// Arguments are the names of a prompt's arguments; nil if they are not known.
	Arguments []string
}

func (d *Definition) id() string { return d.Server + "/" + d.Name }

// A Fault is one name in one policy that nothing in the world has.
type Fault struct {
	Policy string `json:"policy"`
	Source string `json:"source"` // file:line:column of the policy
	What   string `json:"what"`   // such as `no tool "files/delte"`
	Near   string `json:"near,omitempty"`
}

// References reports every name in the policies in force that nothing in the world has: servers, tools,
// prompts, and arguments that no tool concerned takes, or takes with another type.
func (e *Engine) References(w World) []Fault {
	var out []Fault
	for _, p := range e.current.Load().policies {
		c := checker{world: &w, policy: p}
		c.scope()
		for _, cond := range p.ast.Conditions {
			ast.Inspect(ast.NewNode(cond.Body), func(n ast.IsNode) bool {
				c.node(n)
				return true
			})
		}
		c.arguments()
		out = append(out, c.faults...)
	}
	return out
}

// checker checks one policy.
type checker struct {
	world  *World
	policy *policy
	faults []Fault
	names  []string // values that resource.name is compared with
}

func (c *checker) fault(near, format string, args ...any) {
	f := Fault{Policy: string(c.policy.id), Source: position(c.policy.source), What: fmt.Sprintf(format, args...), Near: near}
	if !slices.Contains(c.faults, f) {
		c.faults = append(c.faults, f)
	}
}

// scope checks what the head of the policy names.
func (c *checker) scope() {
	if uid := scopeOf(c.policy.ast.Resource); uid.Type != "" {
		c.entity(uid)
	}
}

// node checks what a part of a condition names.
func (c *checker) node(n ast.IsNode) {
	switch n := n.(type) {
	case ast.NodeValue:
		if uid, ok := n.Value.(types.EntityUID); ok {
			c.entity(uid)
		}
	case ast.NodeTypeEquals:
		c.compared(n.Left, n.Right)
		c.compared(n.Right, n.Left)
	case ast.NodeTypeNotEquals:
		c.compared(n.Left, n.Right)
		c.compared(n.Right, n.Left)
	case ast.NodeTypeContains:
		c.compared(n.Right, n.Left)
	}
}

// entity checks a server, tool, prompt or endpoint that is named as a whole.
func (c *checker) entity(uid types.EntityUID) {
	id := string(uid.ID)
	switch uid.Type {
	case typeServer:
		c.oneOf("server", id, c.world.Servers)
	case typeEndpoint:
		c.oneOf("endpoint", id, slices.Concat(c.world.Servers, c.world.Groups))
	case typeTool:
		if !c.unseen(id) {
			c.oneOf("tool", id, references(c.world.Tools))
		}
	case typePrompt:
		if !c.unseen(id) {
			c.oneOf("prompt", id, references(c.world.Prompts))
		}
	}
}

// unseen reports whether a definition is one of a server whose definitions are not known.
func (c *checker) unseen(id string) bool {
	server, _, _ := strings.Cut(id, "/")
	return slices.Contains(c.world.Unseen, server)
}

// compared checks a literal that resource.name or resource.server is compared with.
func (c *checker) compared(attr, literal ast.IsNode) {
	a, ok := attr.(ast.NodeTypeAccess)
	if !ok {
		return
	}
	v, ok := a.Arg.(ast.NodeTypeVariable)
	if !ok || v.Name != "resource" {
		return
	}
	for _, value := range literals(literal) {
		text, isText := value.(types.String)
		if !isText {
			continue
		}
		switch a.Value {
		case "server":
			c.oneOf("server", string(text), c.world.Servers)
		case "name":
			c.names = append(c.names, string(text))
			if len(c.world.Unseen) > 0 {
				continue // it may be a name of theirs
			}
			c.oneOf("definition named", string(text), slices.Concat(names(c.world.Tools), names(c.world.Prompts), c.world.Servers, c.world.Groups))
		}
	}
}

func (c *checker) oneOf(what, name string, known []string) {
	if !slices.Contains(known, name) {
		c.fault(nearest(name, known), "no %s %q", what, name)
	}
}

// arguments checks the members of context.arguments against the definitions that the policy can concern.
func (c *checker) arguments() {
	if len(c.policy.args.members) == 0 {
		return
	}
	var concerned []Definition
	for _, list := range [][]Definition{c.world.Tools, c.world.Prompts} {
		for _, d := range list {
			if c.concerns(&d) {
				concerned = append(concerned, d)
			}
		}
	}
	uid := scopeOf(c.policy.ast.Resource)
	if len(concerned) == 0 || len(c.world.Unseen) > 0 && uid.Type == "" {
		return // what it names does not exist, which was said; or it may concern what is not known
	}
	for _, name := range slices.Sorted(maps.Keys(c.policy.args.members)) {
		c.argument(concerned, string(name), c.policy.args.members[name])
	}
}

// concerns reports whether the policy's scope and names let it concern a definition.
func (c *checker) concerns(d *Definition) bool {
	if len(c.names) > 0 && !slices.Contains(c.names, d.Name) {
		return false
	}
	switch uid := scopeOf(c.policy.ast.Resource); uid.Type {
	case typeTool, typePrompt:
		return string(uid.ID) == d.id()
	case typeServer:
		return string(uid.ID) == d.Server
	default:
		return true
	}
}

// argument reports an argument that none of the definitions takes, or none takes with the type that the
// policy expects.
func (c *checker) argument(concerned []Definition, name string, want *shape) {
	var known, kinds []string
	for i := range concerned {
		members, open := concerned[i].members()
		if open {
			return // its arguments are not known
		}
		for arg, kind := range members {
			known = append(known, arg)
			if arg == name {
				kinds = append(kinds, kind)
			}
		}
	}
	slices.Sort(known)
	where := "tool concerned"
	if len(concerned) == 1 {
		where = concerned[0].id()
	}
	switch {
	case len(kinds) == 0:
		c.fault(nearest(name, known), "no %s takes an argument %q", where, name)
	case !slices.ContainsFunc(kinds, func(k string) bool { return fits(want.kind, k) }):
		c.fault("", "argument %q is used as %v, but %s declares it as %s", name, want.kind, where, strings.Join(slices.Compact(kinds), ", "))
	}
}

// members lists the arguments with their JSON types; open is true if others may be there that are not
// declared by name.
func (d *Definition) members() (types map[string]string, open bool) {
	types = map[string]string{}
	if d.Schema == nil {
		for _, a := range d.Arguments {
			types[a] = "string"
		}
		return types, d.Arguments == nil
	}
	var s struct {
		Properties map[string]struct {
			Type json.RawMessage `json:"type"`
		} `json:"properties"`
		Additional json.RawMessage `json:"additionalProperties"`
		Patterns   json.RawMessage `json:"patternProperties"`
		Ref        string          `json:"$ref"`
		AllOf      json.RawMessage `json:"allOf"`
		AnyOf      json.RawMessage `json:"anyOf"`
		OneOf      json.RawMessage `json:"oneOf"`
	}
	if json.Unmarshal(d.Schema, &s) != nil {
		return types, true
	}
	for name, p := range s.Properties {
		var one string
		if json.Unmarshal(p.Type, &one) != nil {
			one = "" // several types, or none
		}
		types[name] = one
	}
	open = s.Patterns != nil || s.Ref != "" || s.AllOf != nil || s.AnyOf != nil || s.OneOf != nil ||
		len(s.Additional) > 0 && s.Additional[0] == '{' || string(s.Additional) == "true"
	return types, open
}

// fits reports whether a value of a JSON type can be what the policy expects.
func fits(want kind, declared string) bool {
	switch want {
	case kindBool:
		return declared == "boolean" || declared == ""
	case kindLong:
		return declared == "integer" || declared == "number" || declared == ""
	case kindDecimal:
		return declared == "number" || declared == "integer" || declared == "string" || declared == ""
	case kindString, kindDatetime, kindDuration, kindIP:
		return declared == "string" || declared == ""
	case kindSet:
		return declared == "array" || declared == ""
	case kindRecord:
		return declared == "object" || declared == ""
	case kindPresence, kindUnknown, kindMixed:
	}
	return true
}

func references(list []Definition) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].id()
	}
	return out
}

func names(list []Definition) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].Name
	}
	return out
}

// nearest is the known name that a misspelt one most likely means; empty if none is near.
func nearest(name string, known []string) string {
	best, distance := "", 1+len(name)/3
	for _, k := range known {
		if d := edits(name, k, distance); d < distance || d == distance && best == "" {
			best, distance = k, d
		}
	}
	return best
}

// edits is the optimal string alignment distance, or more than limit if it is larger.
func edits(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if d := len(x) - len(y); max(d, -d) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+different(x[i-1], y[j-1]))
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}

func different(a, b rune) int {
	if a == b {
		return 0
	}
	return 1
}

// ToolDefinition reads the canonical definition of a tool or prompt for References.
func ToolDefinition(server, name string, canonical []byte) Definition {
	v := wire.Parse(canonical)
	d := Definition{Server: server, Name: name, Schema: v.Get("inputSchema").Raw()}
	if list := v.Get("arguments"); list.Exists() {
		d.Arguments = []string{}
		for _, a := range list.Elements() {
			if text, ok := a.Get("name").Text(); ok {
				d.Arguments = append(d.Arguments, text)
			}
		}
	}
	return d
}
