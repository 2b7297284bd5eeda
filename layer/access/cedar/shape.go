package cedar

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
)

// A kind is the Cedar type that a policy's use of an argument calls for.
type kind uint8

const (
	kindPresence kind = iota // only asked for with has; the value is not read
	kindUnknown              // read, but nothing tells the type
	kindBool
	kindLong
	kindString
	kindDecimal
	kindDatetime
	kindDuration
	kindIP
	kindSet
	kindRecord
	kindMixed // policies of one slice disagree; the value keeps its JSON type
)

func (k kind) String() string {
	return [...]string{"presence", "unknown", "Bool", "Long", "String", "decimal", "datetime", "duration", "ipaddr", "Set", "Record", "mixed"}[min(k, kindMixed)]
}

// A shape is what policies want to know of one JSON value: its type and, of a record, the members
// that they name. Shapes are immutable once a policy set is built.
type shape struct {
	kind    kind
	element kind                    // of a set
	members map[types.String]*shape // of a record; nothing else is read
	fields  []field                 // members in order, filled by seal
}

// A field is one member of a sealed shape.
type field struct {
	name  types.String
	shape *shape
}

// seal lists the members in order, for reading messages. The shape does not change any more.
func (s *shape) seal() {
	s.fields = make([]field, 0, len(s.members))
	for _, name := range slices.Sorted(maps.Keys(s.members)) {
		s.members[name].seal()
		s.fields = append(s.fields, field{name, s.members[name]})
	}
}

func (s *shape) member(name types.String) *shape {
	if s.members == nil {
		s.members = map[types.String]*shape{}
	}
	m := s.members[name]
	if m == nil {
		m = &shape{}
		s.members[name] = m
	}
	return m
}

// want narrows the kind by one more use.
func (s *shape) want(k, element kind) error {
	switch {
	case s.kind <= kindUnknown || k <= kindUnknown:
		if k > s.kind {
			s.kind, s.element = k, element
		}
	case s.kind != k:
		return fmt.Errorf("is used both as %v and as %v", s.kind, k)
	case k == kindSet && s.element <= kindUnknown:
		s.element = element
	case k == kindSet && element > kindUnknown && element != s.element:
		return fmt.Errorf("is used both as a set of %v and as a set of %v", s.element, element)
	}
	return nil
}

// merge joins what two policies want. Where they disagree the value keeps its JSON type: the policy
// that expected another one fails, which denies.
func (s *shape) merge(o *shape) {
	if err := s.want(o.kind, o.element); err != nil {
		s.kind = kindMixed
	}
	for name, m := range o.members {
		s.member(name).merge(m)
	}
}

// settle gives members whose type nothing tells the type they are checked with. Another policy that
// knows better then disagrees, instead of deciding for this one what it gets to see.
func (s *shape) settle() {
	if s.kind == kindUnknown {
		s.kind = kindString
	}
	if s.kind == kindSet && s.element <= kindUnknown {
		s.element = kindString
	}
	for _, m := range s.members {
		m.settle()
	}
}

// record renders the shape as a schema type: every member optional, so every access needs a guard.
func (s *shape) record() resolved.RecordType {
	out := resolved.RecordType{}
	for name, m := range s.members {
		out[name] = resolved.Attribute{Type: m.schemaType(), Optional: true}
	}
	return out
}

func (s *shape) schemaType() resolved.IsType {
	switch s.kind {
	case kindRecord:
		return s.record()
	case kindSet:
		return resolved.SetType{Element: (&shape{kind: s.element}).schemaType()}
	case kindBool:
		return resolved.BoolType{}
	case kindLong:
		return resolved.LongType{}
	case kindDecimal:
		return resolved.ExtensionType("decimal")
	case kindDatetime:
		return resolved.ExtensionType("datetime")
	case kindDuration:
		return resolved.ExtensionType("duration")
	case kindIP:
		return resolved.ExtensionType("ipaddr")
	case kindUnknown, kindPresence, kindString, kindMixed:
	}
	return resolved.StringType{}
}

// A reader walks one policy and notes what it reads of the context.
type reader struct {
	schema *resolved.Schema
	args   shape
	uses   uses
	errs   []error
}

// uses are the members of context that a policy names.
type uses uint32

const (
	useDoor uses = 1 << iota
	useRevision
	useEndpoint
	useNow
	useLabels
	useFindings
	useArguments
	useZone
	useCountry
	useHours
	useHour
	useWeekday
	usePosture
	useRisk
	useTrust
	usePurpose
	useGrant
	useAgent
)

// useMessage are the members that are not known when a definition is shown: they are left out of that
// decision.
const useMessage = useArguments | useFindings | useZone | useCountry | useHours | useHour | useWeekday |
	usePosture | useRisk | useTrust | usePurpose | useGrant | useAgent

func useOf(attr types.String) uses {
	switch attr {
	case "door":
		return useDoor
	case "revision":
		return useRevision
	case "endpoint":
		return useEndpoint
	case "now":
		return useNow
	case "labels":
		return useLabels
	case attrFindings:
		return useFindings
	case attrArguments:
		return useArguments
	default:
		return useOfSurroundings(attr)
	}
}

func useOfSurroundings(attr types.String) uses {
	switch attr {
	case "zone":
		return useZone
	case "country":
		return useCountry
	case "hours":
		return useHours
	case "hour":
		return useHour
	case "weekday":
		return useWeekday
	case "posture":
		return usePosture
	case "risk":
		return useRisk
	case "trust":
		return useTrust
	case "purpose":
		return usePurpose
	case "grant":
		return useGrant
	case "agent":
		return useAgent
	default:
		return 0
	}
}

// read walks the conditions of a policy.
func (r *reader) read(p *ast.Policy) {
	r.args.kind = kindRecord
	for _, c := range p.Conditions {
		r.walk(c.Body, kindBool, kindUnknown)
	}
}

func isContext(n ast.IsNode) bool {
	v, ok := n.(ast.NodeTypeVariable)
	return ok && v.Name == "context"
}

// path returns the member names from context.arguments inwards; ok is false for other expressions.
func path(n ast.IsNode) (names []types.String, ok bool) {
	for {
		a, isAccess := n.(ast.NodeTypeAccess)
		if !isAccess {
			return nil, false
		}
		if isContext(a.Arg) {
			slices.Reverse(names)
			return names, a.Value == attrArguments
		}
		names = append(names, a.Value)
		n = a.Arg
	}
}

// argument notes the use of one member of the arguments.
func (r *reader) argument(names []types.String, k, element kind) {
	s := &r.args
	for _, name := range names {
		if err := s.want(kindRecord, kindUnknown); err != nil {
			r.fail(names, err)
			return
		}
		s = s.member(name)
	}
	if err := s.want(k, element); err != nil {
		r.fail(names, err)
	}
}

func (r *reader) fail(names []types.String, err error) {
	path := []string{"context.arguments"}
	for _, n := range names {
		path = append(path, string(n))
	}
	r.errs = append(r.errs, fmt.Errorf("%s %w", strings.Join(path, "."), err))
}

// walk visits an expression that should have the given kind.
func (r *reader) walk(n ast.IsNode, k, element kind) {
	if names, ok := path(n); ok {
		r.uses |= useArguments
		if len(names) == 0 {
			r.errs = append(r.errs, fmt.Errorf("context.arguments as a whole cannot be compared; name its members"))
			return
		}
		r.argument(names, k, element)
		return
	}
	switch n := n.(type) {
	case ast.NodeTypeVariable:
		if n.Name == "context" {
			r.errs = append(r.errs, fmt.Errorf("context as a whole cannot be compared; name its members"))
		}
	case ast.NodeTypeAccess:
		r.access(n.Arg, n.Value, false)
	case ast.NodeTypeHas:
		r.access(n.Arg, n.Value, true)
	case ast.NodeTypeAnd:
		r.both(n.BinaryNode, kindBool)
	case ast.NodeTypeOr:
		r.both(n.BinaryNode, kindBool)
	case ast.NodeTypeNot:
		r.walk(n.Arg, kindBool, kindUnknown)
	case ast.NodeTypeIfThenElse:
		r.walk(n.If, kindBool, kindUnknown)
		r.walk(n.Then, k, element)
		r.walk(n.Else, k, element)
	default:
		r.operator(n)
	}
}

func (r *reader) access(arg ast.IsNode, attr types.String, has bool) {
	if isContext(arg) {
		r.uses |= useOf(attr)
		return
	}
	names, ok := path(arg)
	if !ok {
		r.walk(arg, kindUnknown, kindUnknown)
		return
	}
	if has { // an access to an argument is seen by walk itself
		r.uses |= useArguments
		r.argument(append(slices.Clone(names), attr), kindPresence, kindUnknown)
	}
}

func (r *reader) both(b ast.BinaryNode, k kind) {
	r.walk(b.Left, k, kindUnknown)
	r.walk(b.Right, k, kindUnknown)
}

// alike walks two sides of one type.
func (r *reader) alike(b ast.BinaryNode, otherwise kind) {
	k, e := r.typeOf(b.Left)
	if k == kindUnknown {
		k, e = r.typeOf(b.Right)
	}
	if k == kindUnknown {
		k = otherwise
	}
	r.walk(b.Left, k, e)
	r.walk(b.Right, k, e)
}

func (r *reader) operator(n ast.IsNode) {
	switch n := n.(type) {
	case ast.NodeTypeEquals:
		r.alike(n.BinaryNode, kindUnknown)
	case ast.NodeTypeNotEquals:
		r.alike(n.BinaryNode, kindUnknown)
	case ast.NodeTypeLessThan:
		r.alike(n.BinaryNode, kindLong)
	case ast.NodeTypeLessThanOrEqual:
		r.alike(n.BinaryNode, kindLong)
	case ast.NodeTypeGreaterThan:
		r.alike(n.BinaryNode, kindLong)
	case ast.NodeTypeGreaterThanOrEqual:
		r.alike(n.BinaryNode, kindLong)
	case ast.NodeTypeAdd:
		r.both(n.BinaryNode, kindLong)
	case ast.NodeTypeSub:
		r.both(n.BinaryNode, kindLong)
	case ast.NodeTypeMult:
		r.both(n.BinaryNode, kindLong)
	case ast.NodeTypeNegate:
		r.walk(n.Arg, kindLong, kindUnknown)
	case ast.NodeTypeLike:
		r.walk(n.Arg, kindString, kindUnknown)
	case ast.NodeTypeContains:
		_, e := r.typeOf(n.Left)
		if e == kindUnknown {
			e, _ = r.typeOf(n.Right)
		}
		r.walk(n.Left, kindSet, e)
		r.walk(n.Right, e, kindUnknown)
	case ast.NodeTypeContainsAll:
		r.sets(n.BinaryNode)
	case ast.NodeTypeContainsAny:
		r.sets(n.BinaryNode)
	case ast.NodeTypeIsEmpty:
		r.walk(n.Arg, kindSet, kindUnknown)
	default:
		r.other(n)
	}
}

func (r *reader) sets(b ast.BinaryNode) {
	_, e := r.typeOf(b.Left)
	if e == kindUnknown {
		_, e = r.typeOf(b.Right)
	}
	r.walk(b.Left, kindSet, e)
	r.walk(b.Right, kindSet, e)
}

func (r *reader) other(n ast.IsNode) {
	switch n := n.(type) {
	case ast.NodeTypeIn:
		r.both(n.BinaryNode, kindUnknown)
	case ast.NodeTypeIs:
		r.walk(n.Left, kindUnknown, kindUnknown)
	case ast.NodeTypeIsIn:
		r.walk(n.Left, kindUnknown, kindUnknown)
		r.walk(n.Entity, kindUnknown, kindUnknown)
	case ast.NodeTypeHasTag:
		r.both(n.BinaryNode, kindUnknown)
	case ast.NodeTypeGetTag:
		r.both(n.BinaryNode, kindUnknown)
	case ast.NodeTypeSet:
		for _, e := range n.Elements {
			r.walk(e, kindUnknown, kindUnknown)
		}
	case ast.NodeTypeRecord:
		for _, e := range n.Elements {
			r.walk(e.Value, kindUnknown, kindUnknown)
		}
	case ast.NodeTypeExtensionCall:
		for i, a := range n.Args {
			r.walk(a, extensionArgument(n.Name, i), kindUnknown)
		}
	}
}

// extensionArgument is the kind of an argument of an extension function or method.
func extensionArgument(name types.Path, i int) kind {
	switch name {
	case "lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual":
		return kindDecimal
	case "isIpv4", "isIpv6", "isLoopback", "isMulticast", "isInRange":
		return kindIP
	case "offset":
		if i == 0 {
			return kindDatetime
		}
		return kindDuration
	case "durationSince", "toDate", "toTime":
		return kindDatetime
	case "toMilliseconds", "toSeconds", "toMinutes", "toHours", "toDays":
		return kindDuration
	default:
		return kindString // constructors
	}
}

// typeOf is the kind of an expression as far as its form tells, with the element kind of a set.
func (r *reader) typeOf(n ast.IsNode) (k, element kind) {
	switch n := n.(type) {
	case ast.NodeValue:
		return kindOfValue(n.Value)
	case ast.NodeTypeSet:
		if len(n.Elements) == 0 {
			return kindSet, kindUnknown
		}
		element, _ = r.typeOf(n.Elements[0])
		return kindSet, element
	case ast.NodeTypeExtensionCall:
		return extensionResult(n.Name), kindUnknown
	case ast.NodeTypeAdd, ast.NodeTypeSub, ast.NodeTypeMult, ast.NodeTypeNegate:
		return kindLong, kindUnknown
	case ast.NodeTypeAccess:
		return r.attribute(n)
	default:
		return kindUnknown, kindUnknown
	}
}

func kindOfValue(v types.Value) (k, element kind) {
	switch v.(type) {
	case types.Boolean:
		return kindBool, kindUnknown
	case types.Long:
		return kindLong, kindUnknown
	case types.String:
		return kindString, kindUnknown
	default:
		return kindUnknown, kindUnknown
	}
}

func extensionResult(name types.Path) kind {
	switch name {
	case "decimal":
		return kindDecimal
	case "datetime", "offset", "toDate":
		return kindDatetime
	case "duration", "durationSince", "toTime":
		return kindDuration
	case "ip", "ipaddr":
		return kindIP
	case "toMilliseconds", "toSeconds", "toMinutes", "toHours", "toDays":
		return kindLong
	default:
		return kindBool
	}
}

// attribute finds the declared kind of principal.x, resource.x, context.x or context.findings.x.
func (r *reader) attribute(n ast.NodeTypeAccess) (k, element kind) {
	if inner, ok := n.Arg.(ast.NodeTypeAccess); ok && isContext(inner.Arg) && inner.Value == attrFindings {
		for _, a := range r.schema.Actions {
			if a.AppliesTo != nil {
				if rec, ok := a.AppliesTo.Context[attrFindings].Type.(resolved.RecordType); ok {
					return kindOfType(rec[n.Value].Type)
				}
			}
		}
	}
	v, ok := n.Arg.(ast.NodeTypeVariable)
	if !ok {
		return kindUnknown, kindUnknown
	}
	if v.Name == "context" {
		for _, a := range r.schema.Actions {
			if a.AppliesTo != nil {
				return kindOfType(a.AppliesTo.Context[n.Value].Type)
			}
		}
	}
	for _, e := range r.schema.Entities { // the same name has the same type in every entity of the schema
		if attr, has := e.Shape[n.Value]; has {
			return kindOfType(attr.Type)
		}
	}
	return kindUnknown, kindUnknown
}

func kindOfType(t resolved.IsType) (k, element kind) {
	switch t := t.(type) {
	case resolved.StringType:
		return kindString, kindUnknown
	case resolved.LongType:
		return kindLong, kindUnknown
	case resolved.BoolType:
		return kindBool, kindUnknown
	case resolved.SetType:
		element, _ = kindOfType(t.Element)
		return kindSet, element
	case resolved.ExtensionType:
		return extensionResult(types.Path(t)), kindUnknown
	default:
		return kindUnknown, kindUnknown
	}
}
