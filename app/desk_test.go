package app

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/config"
)

// TestDesk lets another system be told of a call that waits, and decide on it.
func TestDesk(t *testing.T) {
	t.Parallel()
	const key = "a secret of more than 24 bytes"
	told := make(chan broker.Hold, 1)
	desk := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct {
			Data broker.Hold `json:"data"`
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		told <- m.Data
	}))
	defer desk.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("warder.yaml", fmt.Appendf(nil, `version: 1
data: %q
access:
  inline: 'permit(principal, action, resource);'
  approval: {webhook: {url: %q, secret: {file: %q}, issuer: desk}}
servers: [{name: s, url: "https://s.example"}]
`, filepath.Join(dir, "data"), desk.URL, filepath.Join(dir, "key")))
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	opened, err := a.Broker().Holds.Open(t.Context(), &broker.Call{Principal: "\x1fi\x1fada\x1f\x1f", Server: "s", Tool: "delete", Parameters: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	h := <-told
	body := fmt.Appendf(nil, `{"type":"approval.decided","data":{"id":%q,"nonce":%q,"decision":"approve","by":{"subject":"boss"}}}`, h.ID, h.Nonce)
	if got := deliver(t, a, []byte("another secret, also long enough"), body); got != http.StatusUnauthorized {
		t.Errorf("another key: status %d, want 401", got)
	}
	if got := deliver(t, a, []byte(key), body); got != http.StatusNoContent {
		t.Errorf("status %d, want 204", got)
	}
	after, err := a.Broker().Holds.Get(t.Context(), opened.ID)
	if err != nil || after.Status != broker.HoldApproved || after.Votes[0].By != "desk|boss" {
		t.Errorf("the call is %+v, %v, want approved by the desk", after, err)
	}
}

func deliver(t *testing.T, h http.Handler, key, body []byte) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1"+deskPath, bytes.NewReader(body))
	at := fmt.Sprint(time.Now().Unix())
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "msg_1.%s.%s", at, body)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Webhook-Id", "msg_1")
	r.Header.Set("Webhook-Timestamp", at)
	r.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(m.Sum(nil)))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}
