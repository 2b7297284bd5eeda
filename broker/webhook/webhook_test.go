package webhook_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/broker/webhook"
	"github.com/warder-mcp/warder/internal/state"
)

func secret() []byte { return bytes.Repeat([]byte{7}, 32) }

// TestKnownSignature checks the signature against the example of the Standard Webhooks specification.
func TestKnownSignature(t *testing.T) {
	t.Parallel()
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"test": 2432232314}`
	at := time.Unix(1614265330, 0)
	r, err := webhook.NewReceiver(webhook.ReceiverConfig{Keys: []webhook.Key{{Secret: key}}, Issuer: "desk"}, webhook.ReceiverDeps{
		Decide: func(context.Context, broker.HoldDecision) (broker.Hold, error) { return broker.Hold{}, nil }, Replays: state.NewMemory(nil),
		Now: func() time.Time { return at },
	})
	if err != nil {
		t.Fatal(err)
	}
	status := func(signature string) int {
		q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		q.Header.Set("Content-Type", "application/json")
		q.Header.Set("Webhook-Id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
		q.Header.Set("Webhook-Timestamp", "1614265330")
		q.Header.Set("Webhook-Signature", signature)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, q)
		return w.Code
	}
	if got := status("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="); got != http.StatusBadRequest { // signed, but no decision
		t.Errorf("status %d, want 400", got)
	}
	if got := status("v1,h0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="); got != http.StatusUnauthorized {
		t.Errorf("tampered: status %d, want 401", got)
	}
}

// A desk is the other system: it takes what Warder sends and signs what it decides.
type desk struct {
	got    chan *http.Request
	bodies chan []byte
	status int
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d.got <- r
	d.bodies <- body
	w.WriteHeader(d.status)
}

func TestSender(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][2]webhook.Key{
		"hmac":    {{Secret: secret()}, {Secret: secret()}},
		"ed25519": {{Private: private}, {Public: public}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &desk{got: make(chan *http.Request, 8), bodies: make(chan []byte, 8), status: http.StatusInternalServerError}
			ts := httptest.NewServer(d)
			defer ts.Close()
			s, err := webhook.NewSender(webhook.SenderConfig{URL: ts.URL, Key: keys[0]}, webhook.SenderDeps{
				HTTP: ts.Client(), ApprovalURL: func(id string) string { return "https://gate/approve/" + id },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			s.Notify(broker.Hold{ID: "h", Nonce: "n", Tool: "delete", OpenedAt: time.Now(), Expires: time.Now().Add(time.Minute), Parameters: []byte(`{"secret":1}`)})
			first, body := <-d.got, <-d.bodies
			second := <-d.got // it was answered 500, so it comes again
			if first.Header.Get("Webhook-Id") != second.Header.Get("Webhook-Id") {
				t.Error("the repetition has another id")
			}
			if !strings.Contains(string(body), `"nonce":"n"`) || !strings.Contains(string(body), "https://gate/approve/h") || strings.Contains(string(body), "secret") {
				t.Errorf("body %s", body)
			}
			if got := answer(t, keys[1], first.Header, string(body)); got != http.StatusBadRequest { // signed, but no decision
				t.Errorf("its own receiver answers %d, want 400: the signature does not verify", got)
			}
		})
	}
}

// answer gives a message to a receiver that knows one key.
func answer(t *testing.T, key webhook.Key, h http.Header, body string) int {
	t.Helper()
	r, err := webhook.NewReceiver(webhook.ReceiverConfig{Keys: []webhook.Key{key}, Issuer: "desk"}, webhook.ReceiverDeps{
		Decide: func(context.Context, broker.HoldDecision) (broker.Hold, error) { return broker.Hold{}, nil }, Replays: state.NewMemory(nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	q.Header = h.Clone()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)
	return w.Code
}

const decided = `{"type":"approval.decided","data":{"id":"h","nonce":"n","decision":"approve","by":{"subject":"boss","groups":["ops"]}}}`

// signed is the header of a message from the desk.
func signed(t *testing.T, at time.Time, id, body string) http.Header {
	t.Helper()
	h := http.Header{"Content-Type": {"application/json"}}
	webhook.Sign(webhook.Key{Secret: secret()}, h, id, at, []byte(body))
	return h
}

func TestReceiver(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		name   string
		body   string
		change func(http.Header)
		err    error
		want   int
	}{
		{name: "approved", body: decided, want: http.StatusNoContent},
		{name: "denied", body: strings.Replace(decided, "approve", "deny", 1), want: http.StatusNoContent},
		{name: "signed twice, one unknown", body: decided, change: func(h http.Header) { h.Set("Webhook-Signature", "v1,AAAA "+h.Get("Webhook-Signature")) }, want: http.StatusNoContent},
		{name: "neither yes nor no", body: strings.Replace(decided, `"approve"`, `"maybe"`, 1), want: http.StatusBadRequest},
		{name: "nobody", body: strings.Replace(decided, `"boss"`, `""`, 1), want: http.StatusBadRequest},
		{name: "unknown member", body: strings.Replace(decided, `"id"`, `"x":1,"id"`, 1), want: http.StatusBadRequest},
		{name: "member twice", body: strings.Replace(decided, `"id"`, `"id":"g","id"`, 1), want: http.StatusBadRequest},
		{name: "no signature", body: decided, change: func(h http.Header) { h.Del("Webhook-Signature") }, want: http.StatusUnauthorized},
		{name: "other id", body: decided, change: func(h http.Header) { h.Set("Webhook-Id", "other") }, want: http.StatusUnauthorized},
		{name: "moved in time", body: decided, change: func(h http.Header) { h.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix()-1, 10)) }, want: http.StatusUnauthorized},
		{name: "other version of the same value", body: decided, change: func(h http.Header) {
			h.Set("Webhook-Signature", strings.Replace(h.Get("Webhook-Signature"), "v1,", "v1a,", 1))
		}, want: http.StatusUnauthorized},
		{name: "no time", body: decided, change: func(h http.Header) { h.Del("Webhook-Timestamp") }, want: http.StatusBadRequest},
		{name: "no json", body: decided, change: func(h http.Header) { h.Set("Content-Type", "text/plain") }, want: http.StatusUnsupportedMediaType},
		{name: "too large", body: decided + strings.Repeat(" ", 20<<10), want: http.StatusBadRequest},
		{name: "no such call", body: decided, err: broker.ErrNotFound, want: http.StatusNotFound},
		{name: "not this person", body: decided, err: broker.ErrForbidden, want: http.StatusForbidden},
		{name: "another asking", body: decided, err: broker.ErrNonce, want: http.StatusConflict},
		{name: "store gone", body: decided, err: errors.New("gone"), want: http.StatusServiceUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []broker.HoldDecision
			r := receiver(t, state.NewMemory(nil), func(_ context.Context, d broker.HoldDecision) (broker.Hold, error) {
				got = append(got, d)
				return broker.Hold{}, tt.err
			})
			h := signed(t, now, "msg_1", tt.body)
			if tt.change != nil {
				tt.change(h)
			}
			if status := post(t, r, h, tt.body); status != tt.want {
				t.Errorf("status %d, want %d", status, tt.want)
			}
			if tt.want != http.StatusNoContent {
				if tt.err == nil && len(got) > 0 {
					t.Errorf("decided %+v", got)
				}
				return
			}
			want := []broker.HoldDecision{{
				Hold: "h", Nonce: "n", Approve: tt.name != "denied", Channel: "webhook",
				By: broker.Person{Issuer: "desk", Subject: "boss", Groups: []string{"ops"}, Operator: true},
			}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("decisions (-want +got):\n%s", diff)
			}
			if status := post(t, r, h, tt.body); status != http.StatusConflict {
				t.Errorf("replay: status %d, want 409", status)
			}
		})
	}
	t.Run("old and future", func(t *testing.T) {
		t.Parallel()
		r := receiver(t, state.NewMemory(nil), func(context.Context, broker.HoldDecision) (broker.Hold, error) { return broker.Hold{}, nil })
		for _, age := range []time.Duration{6 * time.Minute, -6 * time.Minute} {
			if status := post(t, r, signed(t, now.Add(-age), "m", decided), decided); status != http.StatusUnauthorized {
				t.Errorf("%v old: status %d, want 401", age, status)
			}
		}
	})
	t.Run("replays cannot be asked", func(t *testing.T) {
		t.Parallel()
		r := receiver(t, broken{}, func(context.Context, broker.HoldDecision) (broker.Hold, error) { return broker.Hold{}, nil })
		if status := post(t, r, signed(t, now, "m", decided), decided); status != http.StatusServiceUnavailable {
			t.Errorf("status %d, want 503", status)
		}
	})
}

type broken struct{}

func (broken) Add(context.Context, string, time.Time) (bool, error) { return true, fmt.Errorf("gone") }

func receiver(t *testing.T, replays state.Replays, decide func(context.Context, broker.HoldDecision) (broker.Hold, error)) http.Handler {
	t.Helper()
	r, err := webhook.NewReceiver(webhook.ReceiverConfig{Keys: []webhook.Key{{Secret: secret()}}, Issuer: "desk"}, webhook.ReceiverDeps{Decide: decide, Replays: replays})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func post(t *testing.T, r http.Handler, h http.Header, body string) int {
	t.Helper()
	q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	q.Header = h
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)
	return w.Code
}

func TestKeysAreChecked(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]webhook.Key{"none": {}, "short": {Secret: []byte("short")}, "both": {Secret: secret(), Public: make([]byte, 32)}} {
		if _, err := webhook.NewSender(webhook.SenderConfig{URL: "https://desk.example", Key: k}, webhook.SenderDeps{HTTP: http.DefaultClient}); err == nil {
			t.Errorf("%s key was accepted", name)
		}
	}
	for _, u := range []string{"", "desk", "ftp://desk.example"} {
		if _, err := webhook.NewSender(webhook.SenderConfig{URL: u, Key: webhook.Key{Secret: secret()}}, webhook.SenderDeps{HTTP: http.DefaultClient}); err == nil {
			t.Errorf("%q was accepted", u)
		}
	}
}
