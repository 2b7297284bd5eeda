package config

import (
	"strings"
	"testing"
)

func TestSharedCredentials(t *testing.T) {
	t.Parallel()
	const servers = `version: 1
servers:
  - {name: a, url: "https://a.example/mcp", headers: {Authorization: {env: TOKEN}}}
  - {name: b, url: "https://b.example/mcp", headers: {X-Api-Key: {env: %s}}}
identity: {shared_credentials: [{ref: {env: %s}, owner: ops}]}
`
	for name, tt := range map[string]struct {
		second, answered string
		ok               bool
	}{
		"each its own":         {"OTHER", "NOTHING", true},
		"shared":               {"TOKEN", "NOTHING", false},
		"shared with an owner": {"TOKEN", "TOKEN", true},
	} {
		text := strings.Replace(strings.Replace(servers, "%s", tt.second, 1), "%s", tt.answered, 1)
		_, err := Parse("warder.yaml", []byte(text))
		if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), "share a credential") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
