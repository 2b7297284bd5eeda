package identity

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/internal/spiffe"
)

// maxActors bounds the actor chain of a token (RFC 8693 section 4.1).
const maxActors = 8

// Values of Principal.Transport: how the caller showed that the credential is its own.
const (
	transportBearer = "bearer" // it has the token, and that is all
	transportDPoP   = "dpop"   // the token is bound to a key that a proof must show
	transportMTLS   = "mtls"   // the token is bound to a client certificate, or the certificate is the credential
)

// principal makes the principal from verified claims. Whether the caller holds the key that the token is
// bound to is for IAM-06.
func (r *issuerRule) principal(c jose.Claims) (*warder.Principal, *refusal) {
	p := &warder.Principal{Issuer: r.URL}
	var errs [12]error
	p.Subject, errs[0] = c.Text("sub")
	p.Tenant, errs[1] = optional(c, r.Claims.Tenant)
	p.Client, errs[2] = firstText(c, r.Claims.Client, "client_id", "azp")
	p.Scopes, errs[3] = firstWords(c, r.Claims.Scopes, "scope", "scp")
	p.Groups, errs[4] = r.groups(c)
	p.ACR, errs[5] = c.Text("acr")
	p.AMR, errs[6] = c.List("amr")
	p.AuthTime, errs[7] = c.Time("auth_time")
	p.NotAfter, errs[8] = c.Time("exp")
	p.IssuedAt, errs[9] = c.Time("iat")
	p.Session, errs[10] = c.Text("sid")
	p.TokenID, errs[11] = c.Text("jti")
	if err := errors.Join(errs[:]...); err != nil {
		return nil, refused(err)
	}
	if p.Subject == "" {
		return nil, &refusal{"subject_missing", "token has no subject"}
	}
	for _, step := range []func(jose.Claims, *warder.Principal) *refusal{r.workload, r.actors, confirmation, authority} {
		if ref := step(c, p); ref != nil {
			return nil, ref
		}
	}
	for _, name := range slices.Concat([]string{p.Tenant, p.Subject, p.Client, p.Agent, p.Session, p.TokenID}, p.Groups, p.Actors) {
		if strings.ContainsFunc(name, unicode.IsControl) { // names are put together into keys, with a control character between them
			return nil, &refusal{"claim_invalid", "a claim that names somebody holds control characters"}
		}
	}
	return p, nil
}

// workload names the workload that a token of such an issuer is about.
func (r *issuerRule) workload(_ jose.Claims, p *warder.Principal) *refusal {
	if !r.Workload && !r.trustDomain() {
		return nil
	}
	if domain, ok := spiffe.TrustDomain(p.Subject); r.trustDomain() && (!ok || spiffe.Scheme+domain != r.URL) {
		return &refusal{"workload_unknown", "subject is no SPIFFE id of the trust domain"}
	}
	p.Workload = p.Subject
	if p.Client == "" {
		p.Client = p.Subject
	}
	return nil
}

// authority reads what the token narrows its holder to.
func authority(c jose.Claims, p *warder.Principal) *refusal {
	var err error
	if p.Purpose, err = c.Text("purpose"); err != nil {
		return refused(err)
	}
	v, given := c["authorization_details"]
	if !given {
		return nil
	}
	raw, err := json.Marshal(v)
	if err == nil {
		p.Details, err = rar.Parse(raw)
	}
	if err != nil {
		return &refusal{"details_invalid", err.Error()}
	}
	return nil
}

// confirmation reads which key the token is bound to (RFC 7800 section 3.1). A way of binding that is not
// known here is refused: taking such a token for a bearer token would undo what its issuer meant.
func confirmation(c jose.Claims, p *warder.Principal) *refusal {
	p.Transport = transportBearer
	cnf, err := c.Object("cnf")
	if err != nil {
		return refused(err)
	}
	if _, given := c["cnf"]; !given {
		return nil
	}
	jkt, err1 := cnf.Text("jkt")
	x5t, err2 := cnf.Text("x5t#S256")
	switch {
	case err1 != nil || err2 != nil || len(cnf) != 1 || len(jkt)+len(x5t) != thumbprintSize:
		return &refusal{"confirmation_unknown", "the token is bound in a way that is not known here"}
	case jkt != "":
		p.Transport, p.Binding = transportDPoP, jkt // RFC 9449 section 6.1
	default:
		p.Transport, p.Binding = transportMTLS, x5t // RFC 8705 section 3.1
	}
	return nil
}

// thumbprintSize is the length of a SHA-256 digest in base64url.
const thumbprintSize = 43

// actors reads nested act claims, nearest actor first, and the agent that acts.
func (r *issuerRule) actors(c jose.Claims, p *warder.Principal) *refusal {
	chain, ref := actorChain(c, r.URL)
	if ref != nil {
		return ref
	}
	if p.Chain, p.MayAct, ref = readChain(c); ref != nil {
		return ref
	}
	agent, err := optional(c, r.Claims.Agent)
	if err != nil {
		return refused(err)
	}
	p.Actors, p.Agent = chain, agent
	if agent == "" && len(chain) > 0 {
		p.Agent = chain[0]
	}
	return nil
}

// actorChain lists who acts for whom (RFC 8693 section 4.1). An actor is its sub, or its client_id if it has
// no sub; if it is of another issuer than the token, "issuer|sub".
func actorChain(c jose.Claims, issuer string) ([]string, *refusal) {
	var chain []string
	for {
		act, err := c.Object("act")
		if err != nil {
			return nil, refused(err)
		}
		if act == nil {
			return chain, nil
		}
		name, err := firstText(act, "", "sub", "client_id")
		if err != nil || name == "" {
			return nil, &refusal{"actor_malformed", "act claim without subject"}
		}
		iss, err := act.Text("iss")
		if err != nil {
			return nil, &refusal{"actor_malformed", "act claim whose issuer is not a string"}
		}
		if len(chain) == maxActors {
			return nil, &refusal{"actor_chain_too_long", ""}
		}
		if iss != "" && iss != issuer {
			name = iss + "|" + name
		}
		chain = append(chain, name)
		c = act
	}
}

func (r *issuerRule) groups(c jose.Claims) ([]string, error) {
	name := r.Claims.Groups
	switch name {
	case "-":
		return nil, nil
	case "":
		name = "groups"
	}
	groups, err := c.List(name)
	if err != nil || r.GroupPrefix == "" {
		return groups, err
	}
	for i, g := range groups {
		groups[i] = r.GroupPrefix + g
	}
	return groups, nil
}

func optional(c jose.Claims, name string) (string, error) {
	if name == "" || name == "-" {
		return "", nil
	}
	return c.Text(name)
}

// firstText reads the configured claim, or the first of the usual ones that is there.
func firstText(c jose.Claims, configured string, usual ...string) (string, error) {
	if configured != "" {
		return optional(c, configured)
	}
	for _, name := range usual {
		if s, err := c.Text(name); err != nil || s != "" {
			return s, err
		}
	}
	return "", nil
}

func firstWords(c jose.Claims, configured string, usual ...string) ([]string, error) {
	if configured == "-" {
		return nil, nil
	}
	if configured != "" {
		return c.Words(configured)
	}
	for _, name := range usual {
		if w, err := c.Words(name); err != nil || w != nil {
			return w, err
		}
	}
	return nil, nil
}
