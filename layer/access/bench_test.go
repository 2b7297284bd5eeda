package access_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/layer/access"
)

func BenchmarkNothingConfigured(b *testing.B) {
	l := layerOf(b, access.Config{}, access.Deps{
		Grants: &grants{}, Plans: &plans{}, Holds: &holds{}, Risk: &scores{}, Posture: new(posture), Revoked: &gone{},
	})
	around(b, l, called(b, warder.EffectRead), nil)
}

// around runs the Request phase but for policy, which has a benchmark of its own.
func around(b *testing.B, l warder.Layer, x *warder.Exchange, next func(i int)) {
	b.Helper()
	var list []warder.Interceptor
	for _, ic := range l.Request {
		if ic.Control() != "CVM-01" {
			list = append(list, ic)
		}
	}
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if next != nil {
			next(i)
			i++
		}
		for _, ic := range list {
			if d, err := ic.Intercept(ctx, x); err != nil || d.Verdict != warder.Pass {
				b.Fatal(ic.Control(), d, err)
			}
		}
	}
}

// BenchmarkManyGrants asks a broker with 1,000 grants about 10,000 principals, every tenth of whom has one.
func BenchmarkManyGrants(b *testing.B) {
	box, err := seal.New(seal.NewKey())
	if err != nil {
		b.Fatal(err)
	}
	nothing := func(context.Context, warder.Event) error { return nil }
	br, err := broker.New(b.Context(), broker.Config{}, broker.Deps{State: state.NewMemory(nil), Box: box, Record: nothing})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := br.Close(); err != nil {
			b.Error(err)
		}
	})
	people := make([]*warder.Principal, 10_000)
	for i := range people {
		people[i] = &warder.Principal{Issuer: "https://idp.example", Subject: fmt.Sprint("user-", i), Groups: []string{"dev", "staff", "emea"}}
		br.Risk.Note("refused", people[i], [16]byte{})
		if i%10 > 0 {
			continue
		}
		g, err := br.Grants.Request(b.Context(), broker.GrantRequest{
			Principal: "https://idp.example|" + people[i].Subject, Server: "files", Tools: []string{"read"}, TTL: time.Hour, By: broker.Person{Issuer: "o", Subject: "a"},
		})
		if err == nil {
			_, err = br.Grants.Approve(b.Context(), g.ID, broker.Person{Issuer: "o", Subject: "b", Operator: true}, "bench")
		}
		if err == nil {
			err = br.Grants.Use(b.Context(), &g.Grant)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	l := layerOf(b, access.Config{Risk: access.RiskConfig{Deny: 90}}, access.Deps{
		Grants: br.Grants, Plans: br.Plans, Holds: &holds{}, Risk: br.Risk, Posture: br.Posture, Revoked: &gone{}, Now: time.Now,
	})
	x := called(b, warder.EffectRead)
	around(b, l, x, func(i int) { x.Principal = people[i%len(people)] })
}
