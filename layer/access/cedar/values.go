package cedar

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/wire"
)

// Bounds of what one decision reads of a message.
const (
	maxValues     = 2048     // values in total
	maxTextLength = 64 << 10 // bytes of one string
	maxNesting    = 16
)

// errUnrepresentable says that an argument which a policy names has no Cedar value: the decision is no,
// because a forbid might have depended on it.
var errUnrepresentable = errors.New("argument cannot be represented")

// circumstances builds the context record with the members that the slice's policies name. Leaving
// out the others cannot be noticed, because no policy may look at context as a whole.
func (sl *slice) circumstances(c *access.Context) (types.Record, error) {
	if sl.uses == 0 {
		return types.Record{}, nil
	}
	m := make(types.RecordMap, 8)
	if sl.uses&useDoor != 0 {
		m["door"] = types.String(c.Door)
	}
	if sl.uses&useRevision != 0 {
		m["revision"] = types.String(c.Revision)
	}
	if sl.uses&useEndpoint != 0 {
		m["endpoint"] = types.String(c.Endpoint)
	}
	if sl.uses&useNow != 0 {
		m["now"] = types.NewDatetime(c.Now)
	}
	if sl.uses&useLabels != 0 {
		m["labels"] = texts(c.Labels)
	}
	if sl.uses&useFindings != 0 {
		m[attrFindings] = sl.set.findings(c.Decisions)
	}
	if sl.uses&useSurroundings != 0 {
		sl.surroundings(m, c)
	}
	if sl.uses&useArguments != 0 && c.Arguments.Exists() {
		if c.Arguments.Kind() != '{' {
			return types.Record{}, fmt.Errorf("%w: arguments are not an object", errUnrepresentable)
		}
		rd := valueReader{left: maxValues}
		args, err := rd.record(c.Arguments, &sl.args, 0)
		if err != nil {
			return types.Record{}, err
		}
		m[attrArguments] = args
	}
	return types.NewRecord(m), nil
}

// findings summarises what the controls before found. Most messages have none.
func (s *set) findings(decisions []warder.Decision) types.Record {
	count, severity := 0, -1
	var rules []types.Value
	for i := range decisions {
		for j := range decisions[i].Findings {
			f := &decisions[i].Findings[j]
			count++
			severity = max(severity, int(f.Severity))
			rules = append(rules, types.String(f.Rule))
		}
	}
	if count == 0 {
		return s.nothing
	}
	return findings(count, severity, rules)
}

func findings(count, severity int, rules []types.Value) types.Record {
	return types.NewRecord(types.RecordMap{
		"count": types.Long(count), "severity": types.Long(severity), "rules": types.NewSet(rules...),
	})
}

// valueReader turns JSON into Cedar values, bounded.
type valueReader struct{ left int }

func (r *valueReader) spend(depth int) error {
	if r.left--; r.left < 0 || depth > maxNesting {
		return fmt.Errorf("%w: too many or too deep", errUnrepresentable)
	}
	return nil
}

// record reads the members that the shape names; with a nil shape, all.
func (r *valueReader) record(v wire.Value, want *shape, depth int) (types.Record, error) {
	if err := r.spend(depth); err != nil {
		return types.Record{}, err
	}
	m := types.RecordMap{}
	for key, member := range v.Members() {
		name, inner, wanted := want.find(key)
		if !wanted || member.Kind() == 'n' {
			continue // null counts as absent
		}
		value, err := r.value(member, inner, depth+1)
		if err != nil {
			return types.Record{}, fmt.Errorf("%.80q: %w", string(name), err)
		}
		m[name] = value
	}
	return types.NewRecord(m), nil
}

// find returns the name and shape of a member; without a shape every member is wanted.
func (s *shape) find(key wire.Key) (name types.String, inner *shape, wanted bool) {
	if s == nil {
		return types.String(key.Unescaped()), nil, true
	}
	for i := range s.fields {
		if key.Is(string(s.fields[i].name)) {
			return s.fields[i].name, s.fields[i].shape, true
		}
	}
	return "", nil, false
}

func (r *valueReader) value(v wire.Value, want *shape, depth int) (types.Value, error) {
	k := kindUnknown
	if want != nil {
		k = want.kind
	}
	if k == kindPresence {
		return types.True, nil // no policy reads it
	}
	switch v.Kind() {
	case '{':
		if k != kindRecord {
			want = nil
		}
		return r.record(v, want, depth)
	case '[':
		var element kind
		if k == kindSet {
			element = want.element
		}
		return r.array(v, element, depth)
	case '"':
		if err := r.spend(depth); err != nil {
			return nil, err
		}
		return text(v, k)
	case '0':
		if err := r.spend(depth); err != nil {
			return nil, err
		}
		return number(string(v.Raw()), k)
	case 't', 'f':
		return types.Boolean(v.Kind() == 't'), r.spend(depth)
	default:
		return nil, fmt.Errorf("%w: null inside an array", errUnrepresentable)
	}
}

func (r *valueReader) array(v wire.Value, element kind, depth int) (types.Value, error) {
	if err := r.spend(depth); err != nil {
		return nil, err
	}
	var want *shape
	if element > kindUnknown {
		want = &shape{kind: element}
	}
	var values []types.Value
	for _, e := range v.Elements() {
		value, err := r.value(e, want, depth+1)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return types.NewSet(values...), nil
}

func text(v wire.Value, k kind) (types.Value, error) {
	s, ok := v.Text()
	if !ok || len(s) > maxTextLength {
		return nil, fmt.Errorf("%w: string is too long", errUnrepresentable)
	}
	var out types.Value
	var err error
	switch k {
	case kindIP:
		out, err = types.ParseIPAddr(s)
	case kindDatetime:
		out, err = types.ParseDatetime(s)
	case kindDuration:
		out, err = types.ParseDuration(s)
	default:
		out = types.String(s)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: not a valid %v", errUnrepresentable, k)
	}
	return out, nil
}

// number reads an integral number as Long and any other as decimal; a policy that needs a decimal gets
// one in both cases. 100, 100.0 and 1e2 are the same number to a server, so they are the same here.
func number(raw string, k kind) (types.Value, error) {
	plain, err := plainNumber(raw)
	if err != nil {
		return nil, err
	}
	if k != kindDecimal && !strings.Contains(plain, ".") {
		n, err := strconv.ParseInt(plain, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: number is out of range", errUnrepresentable)
		}
		return types.Long(n), nil
	}
	if !strings.Contains(plain, ".") {
		plain += ".0"
	}
	d, err := types.ParseDecimal(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: number is out of range or has more than four digits after the point", errUnrepresentable)
	}
	return d, nil
}

// plainNumber writes a JSON number without exponent, leading zeros, and trailing zeros of the
// fraction.
func plainNumber(raw string) (string, error) {
	sign := ""
	if strings.HasPrefix(raw, "-") {
		sign, raw = "-", raw[1:]
	}
	mantissa, shift := raw, 0
	if i := strings.IndexAny(raw, "eE"); i >= 0 {
		mantissa = raw[:i]
		n, err := strconv.Atoi(strings.TrimPrefix(raw[i+1:], "+"))
		if err != nil || n > 40 || n < -40 {
			return "", fmt.Errorf("%w: exponent is out of range", errUnrepresentable)
		}
		shift = n
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if len(whole)+len(fraction) > 60 {
		return "", fmt.Errorf("%w: number has too many digits", errUnrepresentable)
	}
	if shift > 0 {
		fraction += strings.Repeat("0", max(0, shift-len(fraction)))
		whole, fraction = whole+fraction[:shift], fraction[shift:]
	}
	if shift < 0 {
		whole = strings.Repeat("0", max(0, -shift-len(whole))) + whole
		cut := len(whole) + shift
		whole, fraction = whole[:cut], whole[cut:]+fraction
	}
	whole, fraction = strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0")
	if whole == "" {
		whole = "0"
	}
	if whole == "0" && fraction == "" {
		sign = ""
	}
	if fraction != "" {
		return sign + whole + "." + fraction, nil
	}
	return sign + whole, nil
}
