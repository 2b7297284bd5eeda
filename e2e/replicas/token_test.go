package replicas

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"syscall"
	"testing"
)

// kill ends a process without giving it a chance to save anything.
func kill(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }

// tokenID is the jti of a token.
func tokenID(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %q", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ JTI string }
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return c.JTI
}
