package network

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/warder-mcp/warder"
)

// overTCP returns an exchange that came over a connection between two addresses.
func overTCP(peer, local string) *warder.Exchange {
	return &warder.Exchange{Door: warder.DoorHTTP, Conn: warder.Conn{
		Peer: netip.MustParseAddrPort(peer), Local: netip.MustParseAddrPort(local),
		Method: http.MethodPost, Header: http.Header{},
	}}
}

// check runs one control and compares the verdict and the reason; no reason means it passes.
func check(t *testing.T, c warder.Interceptor, x *warder.Exchange, code warder.Code, reason warder.Reason) {
	t.Helper()
	d, err := c.Intercept(t.Context(), x)
	if err != nil {
		t.Fatalf("Intercept: %v", err)
	}
	if reason == "" {
		if d.Verdict != warder.Pass {
			t.Fatalf("got %s %s (%s), want pass", d.Verdict, d.Reason, d.Detail)
		}
		return
	}
	if d.Verdict != warder.Deny || d.Code != code || d.Reason != reason {
		t.Fatalf("got %s %s %s, want deny %s %s", d.Verdict, d.Code, d.Reason, code, reason)
	}
}

func TestLayer(t *testing.T) {
	t.Parallel()
	l, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	var got []warder.ControlID
	for _, c := range l.Connect {
		got = append(got, c.Control())
	}
	if len(got) != 2 || got[0] != "NET-05" || got[1] != "PRT-03" {
		t.Errorf("controls = %v, want NET-05 then PRT-03", got)
	}
	for _, cfg := range []Config{
		{AllowedHosts: []string{"https://gate.example.com"}},
		{AllowedHosts: []string{"user@gate.example.com"}},
		{AllowedHosts: []string{"*"}},
		{AllowedOrigins: []string{"null"}},
		{AllowedOrigins: []string{"*"}},
		{AllowedOrigins: []string{"https://gate.example.com/"}},
		{AllowedOrigins: []string{"ftp://gate.example.com"}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("New(%+v) passed", cfg)
		}
	}
}
