package issuer

import (
	"errors"
	"testing"
)

func TestWithdraw(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.login()
	for name, who := range map[string][2]string{"another client": {"ada", "other"}, "another person": {"eve", "app"}} {
		if err := w.is.Withdraw(t.Context(), who[0], who[1]); err != nil {
			t.Fatal(err)
		}
		if r = w.post("token", refreshForm(r.text("refresh_token"))); r.status != 200 {
			t.Fatalf("%s: %d %s", name, r.status, r.body)
		}
	}
	for range 2 { // twice is no error
		if err := w.is.Withdraw(t.Context(), "ada", "app"); err != nil {
			t.Fatal(err)
		}
	}
	w.wants("refresh", w.post("token", refreshForm(r.text("refresh_token"))), 400, "invalid_grant", "refresh_dead")
	if _, f := w.is.verify(t.Context(), r.text("access_token")); f == nil {
		t.Error("the access token still works")
	}
	if w.login().text("access_token") == "" {
		t.Error("nobody can consent again")
	}
	w.store.fail(errors.New("gone"))
	if err := w.is.Withdraw(t.Context(), "ada", "app"); err == nil {
		t.Error("a store that cannot be asked is no error")
	}
}
