package record

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// A Field documents one member of an audit event.
type Field struct {
	Name     string `json:"name"` // with dots for nested members, [] for elements
	Type     string `json:"type"` // JSON type; "date-time" for RFC 3339 text
	Required bool   `json:"required"`
	Doc      string `json:"doc"`
}

// Fields lists every member of an audit event in the order in which it is written, derived from the
// Go types.
func Fields() []Field {
	docs := fieldDocs()
	var out []Field
	walkFields(reflect.TypeFor[document](), "", func(name string, f reflect.StructField, required bool) {
		out = append(out, Field{Name: name, Type: jsonType(f.Type), Required: required, Doc: docs[name]})
	})
	return out
}

// Types lists the event types with their meaning.
func Types() [][2]string {
	return [][2]string{
		{string(warder.EventExchange), "one finished exchange, whatever its outcome"},
		{string(warder.EventIntent), "a call that is about to be forwarded"},
		{string(warder.EventDefinition), "a definition was seen, changed or quarantined"},
		{string(warder.EventApproval), "a definition was approved or revoked"},
		{string(warder.EventConfig), "configuration loaded, reloaded or rejected"},
		{string(warder.EventLifecycle), "start, stop, drain, server start and exit, faults of the trail itself"},
		{string(warder.EventAuth), "authentication refused, or a credential accepted for the first time"},
		{string(warder.EventLogin), "a person logged in, consented, registered a passkey, or failed to"},
		{string(warder.EventToken), "Warder's own authorization server issued, exchanged, refreshed or refused a token"},
		{string(warder.EventKey), "a signing key was made, rotated or retired"},
		{string(warder.EventGrant), "access was requested, granted, used up or ended"},
		{string(warder.EventHold), "a call waits for a person, or a person decided on it"},
		{string(warder.EventRevocation), "something was revoked or restored, or a device's posture was reported"},
		{string(warder.EventAgent), "an agent was registered, changed or disabled"},
		{string(warder.EventAdmin), "an operator did something else, break-glass included"},
		{string(warder.EventCredential), "a credential for a server was obtained, renewed or refused"},
		{string(warder.EventEgress), "a connection that Warder was to open was refused, and for what it was to be"},
	}
}

// Table is the documentation of the event as Markdown tables.
func Table() string {
	var b strings.Builder
	b.WriteString("| Type | Meaning |\n|---|---|\n")
	for _, t := range Types() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", t[0], t[1])
	}
	b.WriteString("\n| Member | JSON type | Always | Meaning |\n|---|---|---|---|\n")
	for _, f := range Fields() {
		always := ""
		if f.Required {
			always = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Type, always, f.Doc)
	}
	return b.String()
}

// Schema is the JSON Schema (2020-12) of an audit event.
func Schema() ([]byte, error) {
	root := schemaOf(reflect.TypeFor[document](), "", fieldDocs())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Warder audit event"
	var types []string
	for _, t := range Types() {
		types = append(types, t[0])
	}
	if p, ok := root["properties"].(map[string]any)["type"].(map[string]any); ok {
		p["enum"] = types
	}
	return json.MarshalIndent(root, "", "  ")
}

func schemaOf(t reflect.Type, prefix string, docs map[string]string) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), prefix+"[]", docs)}
	case t.Kind() == reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for f, name := range members(t) {
			full := strings.TrimPrefix(prefix+"."+name, ".")
			s := schemaOf(f.Type, full, docs)
			s["description"] = docs[full]
			properties[name] = s
			if !optional(f) {
				required = append(required, name)
			}
		}
		slices.Sort(required)
		return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	default:
		return map[string]any{"type": jsonType(t)}
	}
}

// members yields the fields of a struct that appear in JSON, embedded ones in place.
func members(t reflect.Type) func(yield func(reflect.StructField, string) bool) {
	return func(yield func(reflect.StructField, string) bool) {
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || name == "-" || name == "" {
				continue
			}
			if !yield(f, name) {
				return
			}
		}
	}
}

func optional(f reflect.StructField) bool { return strings.Contains(f.Tag.Get("json"), ",omit") }

func walkFields(t reflect.Type, prefix string, visit func(string, reflect.StructField, bool)) {
	for f, name := range members(t) {
		full := strings.TrimPrefix(prefix+"."+name, ".")
		visit(full, f, !optional(f))
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner, full = inner.Elem(), full+"[]"
		}
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[time.Time]() {
			walkFields(inner, full, visit)
		}
	}
}

func jsonType(t reflect.Type) string {
	if t == reflect.TypeFor[time.Time]() {
		return "date-time"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "array"
	case reflect.Pointer, reflect.Struct:
		return "object"
	case reflect.String:
		return "string"
	default:
		return "integer"
	}
}

// fieldDocs says what each member means; a test proves that none is missing.
func fieldDocs() map[string]string {
	docs := map[string]string{
		"id":                    "id of the event; sorts by time",
		"time":                  "when it was recorded, UTC",
		"type":                  "kind of event",
		"exchange":              "id of the exchange; the same in intent and finished record",
		"parent":                "id of the exchange that this one continues",
		"trace_id":              "W3C trace id, hexadecimal",
		"door":                  "front door",
		"revision":              "protocol revision the client speaks",
		"peer":                  "network address of the peer, without port",
		"obligations":           "what the policies that permitted, the risk or the purpose asked for besides",
		"obligations[].kind":    "approval, grant, acr or max_age",
		"obligations[].value":   "approvers, class of the login, or its greatest age",
		"obligations[].policy":  "policy or control that asked",
		"approval":              "id of the person's approval that was used",
		"endpoint":              "name in the URL: a server or a group",
		"server":                "server behind the endpoint",
		"method":                "MCP method",
		"target":                "tool, prompt, resource or task; redacted, quoted, cut to 256 bytes",
		"digest":                "SHA-256 of the approved definition, hexadecimal",
		"effect":                "effect of the tool, from its approval",
		"request_hash":          "salted SHA-256 of the client's message, hexadecimal",
		"outcome":               "how the exchange ended",
		"code":                  "public class of a refusal or failure",
		"reason":                "stable machine code of the reason",
		"control":               "control that refused",
		"findings":              "evidence of controls",
		"findings[].control":    "control that found it",
		"findings[].rule":       "stable rule id within the control",
		"findings[].severity":   "0 info, 1 low, 2 medium, 3 high, 4 critical",
		"findings[].pointer":    "JSON pointer into the message",
		"findings[].evidence":   "redacted, quoted, cut",
		"findings[].confidence": "0 to 1; absent means a certain rule",
		"policies":              "ids of the policies that allowed",
		"forwarded":             "the server was asked",
		"messages":              "messages sent to the client",
		"bytes_in":              "bytes of the client's message",
		"bytes_out":             "bytes sent to the client",
		"duration_us":           "duration in microseconds",
		"config_digest":         "digest of the configuration that decided",
		"detail":                "for operators; redacted",
		"trail":                 "every control that ran: phase, then id:nanoseconds, with the verdict if it was not a pass",
		"decisions":             "every decision that was not a plain pass",
		"decisions[].control":   "control that decided",
		"decisions[].verdict":   "deny, pass, challenge or hold",
		"decisions[].code":      "public class",
		"decisions[].reason":    "stable machine code",
		"decisions[].detail":    "for operators; redacted",
		"decisions[].public":    "what the client was told, if not the default",
		"decisions[].policies":  "ids of the policies that decided",
		"decisions[].observed":  "monitor mode: recorded, not enforced",
	}
	maps.Copy(docs, principalDocs())
	maps.Copy(docs, circumstanceDocs())
	return docs
}

func principalDocs() map[string]string {
	return map[string]string{
		"principal":           "who was calling, from verified credentials",
		"principal.issuer":    "issuer of the credential; \"local\" for a user of the operating system",
		"principal.subject":   "unique within the issuer",
		"principal.tenant":    "tenant",
		"principal.client":    "OAuth client",
		"principal.agent":     "agent acting for the subject",
		"principal.token_id":  "id or digest of the token, never the token",
		"principal.groups":    "groups the issuer vouched for",
		"principal.scopes":    "scopes the token was granted",
		"principal.actors":    "who acts for the subject, nearest first",
		"principal.acr":       "how strongly the person logged in",
		"principal.amr":       "by which means the person logged in",
		"principal.auth_time": "when the person logged in",
		"principal.transport": "how the credential was shown: bearer, dpop, mtls, stdio; absent in records of versions that did not keep what policy saw",
		"principal.bound":     "the credential is bound to a key; which one is not kept",
	}
}

func circumstanceDocs() map[string]string {
	return map[string]string{
		"circumstances":                 "what policy was told besides; absent if it was not asked and the caller had no risk",
		"circumstances.zone":            "place in the network, by the configuration of then",
		"circumstances.country":         "country of the address, by the configuration of then",
		"circumstances.posture":         "of the device or workload: compliant, not_compliant, stale; absent if nothing was known",
		"circumstances.purpose":         "as the credential states it, or the caller declared it; redacted",
		"circumstances.risk":            "score of the caller, 0 to 100",
		"circumstances.trust":           "trust score of the tool, 0 to 100",
		"circumstances.labels":          "data labels met so far",
		"circumstances.grant":           "access for a while that was found",
		"circumstances.grant.id":        "id of the grant",
		"circumstances.grant.purpose":   "what it was given for",
		"circumstances.grant.not_after": "when it ends",
		"circumstances.grant.plan":      "workflow it is a step of",
		"circumstances.grant.step":      "which step",
		"circumstances.agent":           "the registered agent that acted",
		"circumstances.agent.name":      "its name",
		"circumstances.agent.owner":     "who answers for it",
		"circumstances.agent.roles":     "groups it is in",
	}
}
