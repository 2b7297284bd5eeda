package record

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"time"

	"github.com/warder-mcp/warder"
)

// A salt makes hashes in the trail useless to those who do not hold the data folder: without it,
// short requests could be guessed from their hash.
type salt [32]byte

// sum is the salted SHA-256 of b, in hex.
func (s *salt) sum(dst, b []byte) []byte {
	h := sha256.New()
	h.Write(s[:])
	h.Write(b)
	var sum [sha256.Size]byte
	return hex.AppendEncode(dst, h.Sum(sum[:0]))
}

// describe fills what is known of an exchange at any time. Everything that came from outside is
// hashed, cut or redacted here.
func describe(e *warder.Event, p *warder.EventPrincipal, x *warder.Exchange, m marks, kind warder.EventType, at time.Time) {
	*e = warder.Event{
		ID: warder.NewID(at), Time: at.UTC(), Type: kind,
		Exchange: x.ID, Door: x.Door, Revision: x.Revision,
		Endpoint: clean(x.Endpoint, maxTarget),
		Method:   clean(x.Method(), maxTarget),
		Target:   resource(x.Target()),
		TraceID:  m.trace, Digest: m.digest, RequestHash: m.hash, Peer: m.peer,
	}
	if x.Parent != nil {
		e.Parent = x.Parent.ID
	}
	if x.Server != nil {
		e.Server = x.Server.Name
	}
	if x.Principal != nil {
		*p = warder.EventPrincipal{
			Issuer: x.Principal.Issuer, Subject: x.Principal.Subject, Tenant: x.Principal.Tenant,
			Client: x.Principal.Client, Agent: x.Principal.Agent, TokenID: clean(x.Principal.TokenID, maxTarget),
			Groups: x.Principal.Groups, Scopes: x.Principal.Scopes, Actors: x.Principal.Actors,
			ACR: x.Principal.ACR, AMR: x.Principal.AMR, AuthTime: x.Principal.AuthTime.UTC(),
			Transport: x.Principal.Transport, Bound: x.Principal.Binding != "",
		}
		e.Principal = p
	}
	if x.Tool != nil {
		e.Effect = x.Tool.Effect.String()
	}
}

// marks are the fields of an exchange that are dear to make; they are the same in all its records.
type marks struct{ trace, digest, hash, peer string }

// marksOf makes the hexadecimal fields and the peer, which share one string.
func (l *Log) marksOf(x *warder.Exchange) marks {
	var room [224]byte
	b := hex.AppendEncode(room[:0], x.Trace.TraceID[:])
	trace := len(b)
	if x.Tool != nil {
		b = hex.AppendEncode(b, x.Tool.Digest[:])
	}
	digest := len(b)
	if x.Inbound != nil {
		b = l.salt.sum(b, x.Inbound.Raw)
	}
	hash := len(b)
	if x.Conn.Peer.IsValid() {
		b = x.Conn.Peer.Addr().AppendTo(b)
	}
	s := string(b)
	m := marks{digest: s[trace:digest], hash: s[digest:hash], peer: s[hash:]}
	if x.Trace.TraceID != [16]byte{} {
		m.trace = s[:trace]
	}
	return m
}

// conclude fills what is known when the exchange has ended.
func conclude(e *warder.Event, x *warder.Exchange) {
	e.Outcome, e.Forwarded, e.Messages = x.Outcome, x.Forwarded, x.Messages
	e.BytesIn, e.BytesOut = x.BytesIn, x.BytesOut
	e.DurationUS = x.Finished.Sub(x.Received).Microseconds()
	e.Policies = x.Policies
	e.Trail = x.Trail
	e.Decisions, e.Findings = judgements(x)
	if x.Failure == nil {
		return
	}
	e.Code, e.Reason, e.Control = x.Failure.Code, x.Failure.Reason, x.Failure.Control
	if x.Failure.Err != nil {
		e.Detail = clean(withoutValues(x, x.Failure.Err.Error()), maxDetail)
	}
}

// witness fills what policy was told, so that it can be asked again: nothing that names a device or a key.
func witness(e *warder.Event, x *warder.Exchange) {
	e.Obligations, e.Approval = x.Obligations, x.Approval
	if !x.Around.Asked && x.Risk == 0 {
		return
	}
	a := &x.Around
	c := &warder.Circumstances{
		Zone: a.Zone, Country: a.Country, Posture: a.Posture, Purpose: clean(a.Purpose, maxTarget), Trust: a.Trust,
		Risk:   int(math.Ceil(x.Risk)),
		Labels: x.Labels,
	}
	if g := a.Grant; g != nil {
		c.Grant = &warder.GrantSeen{ID: g.ID, Purpose: clean(g.Purpose, maxTarget), NotAfter: g.NotAfter.UTC(), Plan: g.Plan, Step: g.Step}
	}
	if x.Principal != nil && x.Principal.Registered != nil {
		r := x.Principal.Registered
		c.Agent = &warder.AgentSeen{Name: r.Name, Owner: r.Owner, Roles: r.Roles}
	}
	e.Circumstances = c
}

// judgements copies the decisions that say something, redacted, and collects their findings.
func judgements(x *warder.Exchange) ([]warder.Decision, []warder.Finding) {
	var ds []warder.Decision
	var fs []warder.Finding
	for i := range x.Decisions {
		d := x.Decisions[i]
		for _, f := range d.Findings {
			if f.Control == "" {
				f.Control = d.Control
			}
			f.Evidence = clean(withoutValues(x, f.Evidence), maxEvidence)
			f.Pointer = clean(f.Pointer, maxTarget)
			fs = append(fs, f)
		}
		d.Findings, d.Ask = nil, nil
		d.Detail = clean(withoutValues(x, d.Detail), maxDetail)
		d.Public = clean(withoutValues(x, d.Public), maxDetail)
		ds = append(ds, d)
	}
	return ds, fs
}
