package upstream_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/upstream"
)

// removal is the detail of the event that says what became of a removed credential.
func (r *rig) removal() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Reason == "removed_by_operator" && e.Control == "AUT-04" && e.Type == warder.EventCredential {
			return e.Detail
		}
	}
	return ""
}

// TestRemove takes back what a person granted: every replica forgets it, and the authorization server is told.
func TestRemove(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(r *rig)
		asks   int // requests at the revocation endpoint
		want   string
	}{
		"the server takes revocations": {func(*rig) {}, 2, "root; revoked at the authorization server"},
		"it has no endpoint": {
			func(r *rig) { r.as.Metadata = map[string]any{"revocation_endpoint": nil} }, 0,
			"root; not revoked at the authorization server: the authorization server takes no revocations",
		},
		"its endpoint is elsewhere, inside": {
			func(r *rig) { r.as.Metadata = map[string]any{"revocation_endpoint": "https://169.254.169.254/revoke"} }, 0,
			"root; not revoked at the authorization server: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, personal())
			tt.change(r)
			a := r.open()
			b := r.open()
			a.authorized(alice())
			if status, e := b.call(alice()); status != http.StatusOK {
				t.Fatalf("before: %d, %v", status, e)
			}
			list, err := a.keeper.List(t.Context(), "s", "", 10)
			if err != nil || len(list) != 1 || list[0].Server != "s" || list[0].Issuer != r.as.URL || !strings.Contains(list[0].Owner, "alice") {
				t.Fatalf("listed %+v, %v", list, err)
			}
			if other, err := a.keeper.List(t.Context(), "other", "", 10); err != nil || len(other) != 0 {
				t.Errorf("of another server: %+v, %v", other, err)
			}
			if next, err := a.keeper.List(t.Context(), "s", list[0].ID, 10); err != nil || len(next) != 0 {
				t.Errorf("the next page: %+v, %v", next, err)
			}
			if err := a.keeper.Remove(t.Context(), list[0].ID, "root"); err != nil {
				t.Fatal(err)
			}
			if got := r.removal(); !strings.HasPrefix(got, tt.want) || tt.asks > 0 && got != tt.want {
				t.Errorf("the trail says %q, want %q", got, tt.want)
			}
			seen := r.as.Seen("/revoke")
			if len(seen) != tt.asks || tt.asks > 0 && (seen[0].Form.Get("token_type_hint") != "refresh_token" || seen[0].Form.Get("token") == "") {
				t.Errorf("the authorization server was asked %d times, want %d: %+v", len(seen), tt.asks, seen)
			}
			if _, e := a.call(alice()); e == nil {
				t.Error("the credential is still used")
			}
			if tt.asks > 0 { // the other replica may try the old token once more; it is worth nothing
				if status, _ := b.call(alice()); status == http.StatusOK {
					t.Error("the token is still good at the server")
				}
			}
			if err := a.keeper.Remove(t.Context(), list[0].ID, "root"); !errors.Is(err, upstream.ErrNotHeld) {
				t.Errorf("again: %v, want %v", err, upstream.ErrNotHeld)
			}
		})
	}
}

// TestRemoveWhileTheServerIsDown forgets the credential all the same.
func TestRemoveWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, personal())
	a := r.open()
	a.authorized(alice())
	list, err := a.keeper.List(t.Context(), "", "", 0)
	if err != nil || len(list) != 1 {
		t.Fatalf("listed %+v, %v", list, err)
	}
	r.as.Mu.Lock()
	r.as.Down = true
	r.as.Mu.Unlock()
	if err := a.keeper.Remove(t.Context(), list[0].ID, "root"); err != nil {
		t.Fatal(err)
	}
	if got := r.removal(); !strings.HasPrefix(got, "root; not revoked") {
		t.Errorf("the trail says %q", got)
	}
	if list, err := a.keeper.List(t.Context(), "", "", 0); err != nil || len(list) != 0 {
		t.Errorf("afterwards: %+v, %v", list, err)
	}
}
