package gateway

import (
	"net/netip"
	"net/url"
	"strings"
	"unicode"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Elicitation says what servers may ask users through the client.
type Elicitation struct {
	Form bool `yaml:"form"` // true lets servers ask with forms; forms that ask for secrets are refused
	URL  bool `yaml:"url"`  // true lets servers send users to a web page: https, or http on this machine
}

// questions judges what servers ask clients: requests in stateful revisions, inputRequests after.
type questions struct{ allow features }

// judge decides on one question. Methods that are not questions to a client pass; whether they may
// come is GW-01's business.
func (q questions) judge(method string, params, caps wire.Value) warder.Decision {
	switch method {
	case wire.MethodSampling:
		return q.kind(q.allow.sampling, caps.Get("sampling").Exists(), method)
	case wire.MethodRootsList:
		return q.kind(q.allow.roots, caps.Get("roots").Exists(), method)
	case wire.MethodElicit:
		return q.elicitation(params, caps.Get("elicitation"))
	case wire.MethodPing, wire.MethodTasksGet, wire.MethodTasksList, wire.MethodTasksResult, wire.MethodTasksCancel:
		return warder.Continue()
	default:
		return warder.Refuse(warder.CodeUpstreamFailed, "question_unknown", "the server asks "+quote(method))
	}
}

// kind decides whether a question of this kind may be asked at all.
func (questions) kind(allowed, declared bool, method string) warder.Decision {
	switch {
	case !allowed:
		return warder.Refuse(warder.CodeDenied, "question_forbidden", "the server asks "+quote(method)).
			Tell("The server asked the client for something that this gateway does not allow.")
	case !declared:
		return warder.Refuse(warder.CodeMissingCapability, "question_undeclared", "the server asks "+quote(method))
	default:
		return warder.Continue()
	}
}

func (q questions) elicitation(params, capability wire.Value) warder.Decision {
	mode := params.Get("mode")
	link, form := capability.Get("url").Exists(), capability.Get("form").Exists()
	switch {
	case mode.Equals("url"):
		if d := q.kind(q.allow.url, link, wire.MethodElicit); d.Verdict != warder.Pass {
			return d
		}
		return judgeLink(params.Get("url"))
	case !mode.Exists() || mode.Equals("form"):
		if d := q.kind(q.allow.form, capability.Exists() && (form || !link), wire.MethodElicit); d.Verdict != warder.Pass {
			return d
		}
		return judgeForm(params)
	default:
		return warder.Refuse(warder.CodeUpstreamFailed, "elicitation_mode", "mode "+quote(string(mode.Raw())))
	}
}

// judgeError decides on the error of 2025-11-25 that sends the user to web pages first (-32042).
func (q questions) judgeError(m *warder.Message, caps wire.Value) warder.Decision {
	if code, ok := wire.At(m, m.Failure.Get("code")).Int(); !ok || code != rpcURLElicitation {
		return warder.Continue()
	}
	for _, e := range wire.At(m, m.Failure.Get("data")).Get("elicitations").Elements() {
		if !e.Get("mode").Equals("url") {
			return warder.Refuse(warder.CodeUpstreamFailed, "elicitation_mode", "elicitation in an error without mode url")
		}
		if d := q.elicitation(e, caps.Get("elicitation")); d.Verdict != warder.Pass {
			return d
		}
	}
	return warder.Continue()
}

const rpcURLElicitation = -32042 // URLElicitationRequiredError, 2025-11-25 only

// maxLink is the longest link a user is sent to, in bytes.
const maxLink = 2048

// judgeLink lets users be sent to https, or to http on this machine, and nowhere else: no other
// scheme, no user name in front of the host, no host that is not plain ASCII.
func judgeLink(v wire.Value) warder.Decision {
	refuse := func(detail string) warder.Decision {
		return warder.Refuse(warder.CodeUpstreamFailed, "link_forbidden", detail).
			Tell("The server tried to send the user to an address that is not allowed.")
	}
	text, ok := v.Text()
	if !ok || len(text) > maxLink {
		return refuse("no link, or too long")
	}
	for _, r := range text {
		if r <= ' ' || r > '~' || r == '\\' {
			return refuse("link with forbidden characters: " + quote(text))
		}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "" || u.User != nil:
		return refuse("link " + quote(text))
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return warder.Continue()
	default:
		return refuse("link " + quote(text))
	}
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// judgeForm refuses forms that ask for secrets (MCP 2026-07-28 client/elicitation: servers must not
// use forms for sensitive information). A field whose value is chosen from a list cannot take one.
func judgeForm(params wire.Value) warder.Decision {
	free := false
	for key, field := range params.Find("requestedSchema", "properties").Members() {
		if !freeText(field) {
			continue
		}
		free = true
		title, _ := field.Get("title").Text()
		description, _ := field.Get("description").Text()
		if name := key.Unescaped(); secretName(name) || secretName(title) || secretPhrase(description) || field.Get("format").Equals("password") {
			return refuseForm("/requestedSchema/properties/"+name, name)
		}
	}
	if message, _ := params.Get("message").Text(); free && secretPhrase(message) {
		return refuseForm("/message", message)
	}
	return warder.Continue()
}

func refuseForm(pointer, evidence string) warder.Decision {
	d := warder.Refuse(warder.CodeUpstreamFailed, "form_asks_secret", "a form asks for a secret").
		Tell("The server asked the user for a secret in a form.")
	d.Findings = []warder.Finding{{Rule: "form_asks_secret", Severity: warder.High, Pointer: pointer, Evidence: quote(evidence)}}
	return d
}

// freeText reports whether a field takes text or digits that the user types.
func freeText(field wire.Value) bool {
	if field.Get("enum").Exists() || field.Get("oneOf").Exists() {
		return false
	}
	kind := field.Get("type")
	return !kind.Equals("boolean") && !kind.Equals("array")
}

// secretName reports whether a field name or title names a secret: a word that means one wherever
// it stands, or a word that means one when it stands alone.
func secretName(text string) bool {
	words := words(text)
	alone := strings.TrimSpace(words)
	switch alone {
	case "pin", "pin code", "token", "otp", "code 2fa", "2fa", "2fa code", "mfa", "mfa code", "key", "seed", "card", "pan":
		return true
	}
	return secretPhrase(text)
}

// secretPhrase reports whether a text names a secret.
func secretPhrase(text string) bool {
	if text == "" {
		return false
	}
	normal := words(text)
	for _, s := range [...]string{
		" password ", " passwords ", " passwd ", " passphrase ", " passcode ", " pwd ", " apikey ", " api key ", " api keys ",
		" secret ", " secret key ", " client secret ", " access key ", " access token ", " auth token ", " refresh token ",
		" bearer token ", " api token ", " session token ", " personal access token ", " session cookie ", " private key ",
		" credential ", " credentials ", " credit card ", " card number ", " cvv ", " cvc ", " security code ",
		" one time password ", " one time code ", " totp ", " otp ", " verification code ", " recovery code ", " recovery codes ",
		" recovery phrase ", " seed phrase ", " mnemonic ", " ssn ", " social security number ",
		" contraseña ", " passwort ", " kennwort ", " mot de passe ", " senha ", " wachtwoord ", " пароль ", " hasło ", " parola ", " şifre ",
	} {
		if strings.Contains(normal, s) {
			return true
		}
	}
	for _, s := range [...]string{"密码", "密碼", "パスワード", "비밀번호"} {
		if strings.Contains(normal, s) {
			return true
		}
	}
	return false
}

// maxWords bounds how much of a text is read for words, in bytes.
const maxWords = 4 << 10

// words writes a text in lower case with its words, also those of camelCase and snake_case, between
// single spaces, one in front and one behind.
func words(text string) string {
	if len(text) > maxWords {
		text = text[:maxWords]
	}
	var b strings.Builder
	b.WriteByte(' ')
	space, lower := true, false
	for _, r := range text {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			if !space {
				b.WriteByte(' ')
			}
			space, lower = true, false
			continue
		}
		if unicode.IsUpper(r) && lower {
			b.WriteByte(' ')
		}
		lower = unicode.IsLower(r)
		b.WriteRune(unicode.ToLower(r))
		space = false
	}
	if !space {
		b.WriteByte(' ')
	}
	return b.String()
}
