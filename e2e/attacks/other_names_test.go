package attacks

import (
	"net/url"
	"testing"
)

// testOtherNames has a person call with a token of their provider, and decide on that call after a login here
// through the same provider, under the name they have here.
func testOtherNames(t *testing.T, n *tally) {
	t.Helper()
	f := newForger(t)
	corp := newProvider(t, f)
	w := newWorld(t, n, setup{
		Files: map[string][]byte{"secret": []byte("a-client-secret"), "keys.json": f.keySet()},
		Identity: `  issuers:
    - {url: "` + corp.URL + `", jwks: {file: "%FILE:keys.json%"}, group_prefix: "idp:"}`,
		Issuer: `  login:
    providers:
      - {name: corp, issuer: "` + corp.URL + `", client_id: warder, client_secret: {file: "%FILE:secret%"}, private: true}`,
		More: operators + `access:
  approval: {tools: ["a/pay"], approvers: ["group:ops"], wait: 10ms}
  inline: |
    @id("all") permit(principal, action, resource);
`,
	})
	corp.claims = object{"groups": []string{"ops"}}
	ada := w.browser()
	ada.get("/issuer/approve")
	ada.submit("/login/provider", url.Values{"provider": {"corp"}})
	ada.federate()
	text := "x"
	decide := func(subject string) answer {
		text += "x"
		token := f.sign(object{"typ": "at+jwt", "alg": "ES256", "kid": "ec"}, f.claims(corp.URL, w.resource("a")).with(object{"sub": subject}), f.ec)
		w.send(call{token: token, tool: "pay", text: text})
		ada.get("/issuer/approve/" + w.waiting()[0].ID)
		got := ada.submit("/approve", url.Values{"decision": {"approve"}})
		w.clear()
		return got
	}
	w.try(func(*world) answer { return decide("bob") }, shown, []attack{
		{"approved by who asked, under another name", func(*world) answer { return decide("ada") }, step{"", "approval_forbidden"}, ""},
	})
}
