package input

import (
	"fmt"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A metaPolicy says which keys of _meta travel on.
type metaPolicy struct {
	allow []string
	strip bool // leave unknown keys out instead of refusing the message
}

// A keyVerdict is what becomes of a key.
type keyVerdict uint8

const (
	keyRefused  keyVerdict = iota // in the specification's name, and not defined there
	keyForeign                    // breaks the naming rules
	keyAccepted                   // defined, named after a domain, or allowed by configuration
)

// judge applies the policy to the keys of params._meta or result._meta.
func (p metaPolicy) judge(x *warder.Exchange, m *warder.Message) (warder.Decision, error) {
	var foreign []string
	for i := range m.Meta {
		key := m.Meta[i].Key
		switch p.key(key) {
		case keyAccepted:
		case keyForeign:
			foreign = append(foreign, key)
		case keyRefused:
			return p.refuse(m, key, "this key is reserved and not defined"), nil
		}
	}
	if len(foreign) == 0 {
		return warder.Continue(), nil
	}
	if !p.strip {
		return p.refuse(m, foreign[0], "want a known key or one named after a domain, such as com.example/key"), nil
	}
	return p.leaveOut(x, m, foreign)
}

// metaPointer is where _meta stands in a message.
func metaPointer(m *warder.Message) string {
	_, prefix := body(m)
	return prefix + "/_meta"
}

func (p metaPolicy) refuse(m *warder.Message, key, want string) warder.Decision {
	return refuse(warder.CodeInvalidParams, "unknown_param", point(metaPointer(m), []string{key}), "propertyNames", want)
}

// leaveOut forwards the message without the keys.
func (p metaPolicy) leaveOut(x *warder.Exchange, m *warder.Message, keys []string) (warder.Decision, error) {
	v, _ := body(m)
	limits := wire.DefaultLimits()
	limits.Bytes = max(limits.Bytes, int64(len(m.Raw)))
	out, err := wire.Splice(m, limits, wire.RemoveMembers(m, m.Meta, v.Get("_meta").Span(), keys...)...)
	if err != nil {
		return warder.Decision{}, fmt.Errorf("leave keys out of _meta: %w", err)
	}
	x.Request = out
	findings := make([]warder.Finding, 0, min(len(keys), 8))
	for _, key := range keys[:min(len(keys), 8)] {
		findings = append(findings, warder.Finding{
			Rule: "meta_key_left_out", Severity: warder.Info, Pointer: point(metaPointer(m), []string{key}),
		})
	}
	return warder.Observe(findings...), nil
}

// key judges one key.
func (p metaPolicy) key(key string) keyVerdict {
	switch key {
	case wire.MetaVersion, wire.MetaClientInfo, wire.MetaCapabilities, wire.MetaLogLevel, wire.MetaSubscription,
		wire.MetaRelatedTask, wire.MetaProgressToken, wire.MetaTraceParent, wire.MetaTraceState, wire.MetaBaggage:
		return keyAccepted
	}
	if reservedKey(key) {
		return keyRefused
	}
	if vendorKey(key) || slices.ContainsFunc(p.allow, func(allowed string) bool { return allows(allowed, key) }) {
		return keyAccepted
	}
	return keyForeign
}

func allows(allowed, key string) bool {
	if strings.HasSuffix(allowed, "/") || strings.HasSuffix(allowed, ".") {
		return strings.HasPrefix(key, allowed)
	}
	return key == allowed
}

// reservedKey reports whether a key claims to be the specification's: some label of its prefix is
// "modelcontextprotocol", or "mcp" as the second label or before another one. That is the union of
// what the revisions reserve. Case does not make another name.
func reservedKey(key string) bool {
	prefix, _, ok := strings.Cut(key, "/")
	if !ok {
		return false
	}
	labels := strings.Split(strings.ToLower(prefix), ".")
	for i, label := range labels {
		if label == "modelcontextprotocol" || label == "mcp" && (i == 1 || i < len(labels)-1) {
			return true
		}
	}
	return false
}

// vendorKey reports whether a key has a prefix that is a domain name in reverse, of two labels at
// least, and a name as the specification wants it.
func vendorKey(key string) bool {
	prefix, name, ok := strings.Cut(key, "/")
	if !ok || !strings.Contains(prefix, ".") {
		return false
	}
	for label := range strings.SplitSeq(prefix, ".") {
		if label == "" || !letter(label[0]) || !word(label[len(label)-1]) || !consists(label, "-") {
			return false
		}
	}
	return name == "" || word(name[0]) && word(name[len(name)-1]) && consists(name, "-_.")
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func word(c byte) bool   { return letter(c) || c >= '0' && c <= '9' }

// consists reports whether s is made of letters, digits and the bytes of others.
func consists(s, others string) bool {
	for i := range len(s) {
		if !word(s[i]) && strings.IndexByte(others, s[i]) < 0 {
			return false
		}
	}
	return true
}
