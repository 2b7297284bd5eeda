package upstream

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func rewriteSeeds() []string {
	return []string{
		`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"x"}],"_meta":{"a":1}}}`,
		`{"result":{"a":{"b":[1,2,{"c":null}]},"resultType":"complete"},"jsonrpc":"2.0","id":%s}`,
		"\n { \"id\" : %s , \"jsonrpc\" : \"2.0\" , \"error\" : { \"code\" : -32602 , \"message\" : \"no\", \"data\":{} } } ",
		`{"jsonrpc":"2.0","error":{"code":1,"message":"ä","data":[]},"id":%s}`,
		`{"jsonrpc":"2.0","id":%s,"method":"roots/list","params":{"_meta":{"progressToken":7,"x":"y"},"q":[{}]}}`,
		`{"jsonrpc":"2.0","id":%s,"result":{}}`,
	}
}

// TestRestore holds the shortcuts for ids against the strict decoder.
func TestRestore(t *testing.T) {
	t.Parallel()
	ids := []string{`1`, `-1`, `17592186044416`, `"a"`, `"0195c7e1-3bfa-7d1c-8d43-b0a3f5a1e0aa"`, `""`, `"ä\n\u00e4"`}
	for _, seed := range rewriteSeeds() {
		for _, from := range ids {
			for _, to := range ids {
				checkRestore(t, fmt.Sprintf(seed, from), to)
			}
		}
	}
}

func checkRestore(t *testing.T, raw, to string) {
	t.Helper()
	decode := func() *warder.Message {
		m, err := wire.Decode([]byte(raw), wire.Limits{})
		if err != nil || !m.ID.Present() {
			return nil
		}
		return m
	}
	m := decode()
	if m == nil {
		return
	}
	want, err := wire.WithID(m, []byte(to), wire.Limits{})
	if err != nil {
		return
	}
	for name, got := range map[string]*warder.Message{
		"relocate": relocate(m, m.ID, []byte(to)),
		"restore":  restore(decode(), m.ID, []byte(to)),
	} {
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s %s → %s (-want +got):\n%s", name, raw, to, diff)
		}
	}
	if string(m.Raw) != string(bytes.TrimSpace([]byte(raw))) {
		t.Errorf("relocate changed its input: %s", m.Raw)
	}
}

func FuzzRestore(f *testing.F) {
	for _, seed := range rewriteSeeds() {
		f.Add(fmt.Sprintf(seed, "17592186044416"), "7")
		f.Add(fmt.Sprintf(seed, `"x"`), `"longer than before"`)
	}
	f.Fuzz(func(t *testing.T, raw, id string) {
		if wire.Validate([]byte(id), wire.Limits{}) != nil || !wire.ValidID([]byte(id)) {
			return
		}
		checkRestore(t, raw, id)
	})
}

// TestMint proves that what is sent is what the client wrote but for id and token.
func TestMint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{`{"jsonrpc":"2.0","id":"a","method":"m"}`, `{"jsonrpc":"2.0","id":99,"method":"m"}`},
		{`{"method":"m","params":{"_meta":{"progressToken":"t"},"a":"t"},"id":1,"jsonrpc":"2.0"}`, `{"method":"m","params":{"_meta":{"progressToken":99},"a":"t"},"id":99,"jsonrpc":"2.0"}`},
		{` {"jsonrpc":"2.0", "id" : 5 ,"method":"m","params":{"progressToken":1,"_meta":{"progressToken":2}}}`, `{"jsonrpc":"2.0", "id" : 99 ,"method":"m","params":{"progressToken":1,"_meta":{"progressToken":99}}}`},
	} {
		m := message(t, c.in)
		_, p := mint(m, 99)
		if got := string(p.appendTo(nil)); got != c.want || p.size() != len(c.want) {
			t.Errorf("got %s (%d bytes), want %s", got, p.size(), c.want)
		}
		r := io.Reader(&reader{left: p})
		if got, err := io.ReadAll(iotest.OneByteReader(r)); err != nil || string(got) != c.want {
			t.Errorf("read %s, %v, want %s", got, err, c.want)
		}
	}
}

// TestNames restores what the server says to what the client said.
func TestNames(t *testing.T) {
	t.Parallel()
	req := message(t, `{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{"_meta":{"progressToken":"tok"}}}`)
	n, _ := mint(req, 99)
	for in, want := range map[string]string{
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":99,"progress":1}}`:                  `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"tok","progress":1}}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":98,"progress":1}}`:                  `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":98,"progress":1}}`,
		`{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":99}}}`:   `{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"sub"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"99"}}}`: `{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"sub"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}`:                                  `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"sub"}}`,
	} {
		got, err := n.notification(message(t, in), wire.Limits{})
		if err != nil || string(got.Raw) != want {
			t.Errorf("got %s, %v, want %s", got.Raw, err, want)
		}
	}
	for in, want := range map[string]string{
		`{"jsonrpc":"2.0","id":99,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":99}}}`: `{"jsonrpc":"2.0","id":"sub","result":{"_meta":{"io.modelcontextprotocol/subscriptionId":"sub"}}}`,
		`{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}`:                                         `{"jsonrpc":"2.0","error":{"code":1,"message":"m"},"id":"sub"}`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}`:                               `{"jsonrpc":"2.0","id":"sub","error":{"code":1,"message":"m"}}`,
	} {
		got, err := n.answer(message(t, in), wire.Limits{})
		if err != nil || string(got.Raw) != want {
			t.Errorf("got %s, %v, want %s", got.Raw, err, want)
		}
	}
}

func TestSameID(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{`1`, `1`, true},
		{`1`, `"1"`, false},
		{`"a"`, `"a"`, true},
		{`"\u0061"`, `"a"`, true},
		{`"a/b"`, `"a\/b"`, true},
		{`"a"`, `"b"`, false},
		{``, ``, false},
		{``, `1`, false},
		{`1`, `2`, false},
	} {
		if got := sameID([]byte(tc.a), []byte(tc.b)); got != tc.want {
			t.Errorf("%s and %s: %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
}
