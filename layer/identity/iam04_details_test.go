package identity

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/internal/state"
)

func narrowed(tb testing.TB, details string) *warder.Principal {
	tb.Helper()
	p := human()
	var err error
	if p.Details, err = rar.Parse([]byte(details)); err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestIAM04(t *testing.T) {
	t.Parallel()
	const one = `[{"type":"mcp","server":"files","tools":["read"],"arguments":[{"pointer":"/path","prefix":"/srv/"},{"pointer":"/lines","min":1,"max":100}],"purpose":"report"}]`
	const inside = `{"path":"/srv/a","lines":100}`
	for _, tt := range []struct {
		name, details, raw string
		want               warder.Reason
	}{
		{"pass inside", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":` + inside + `}}`, ""},
		{"pass purpose declared", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":` + inside + `,"_meta":{"io.warder/purpose":"report"}}}`, ""},
		{"pass whole server", `[{"type":"mcp","server":"files"}]`, `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}`, ""},
		{"near_miss bound reached", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"path":"/srv/..a","lines":1}}}`, ""},
		{"near_miss list", one, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, ""},
		{"near_miss notification", one, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, ""},
		{"near_miss listening to lists", one, `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}`, ""},
		{"deny server", `[{"type":"mcp","server":"mail"}]`, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}`, "detail_server"},
		{"deny tool", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"readall","arguments":` + inside + `}}`, "detail_tool"},
		{"deny purpose", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":` + inside + `,"_meta":{"io.warder/purpose":"holidays"}}}`, "detail_purpose"},
		{"deny purpose that is none", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":` + inside + `,"_meta":{"io.warder/purpose":1}}}`, "purpose_mismatch"},
		{"deny prefix", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"path":"/etc","lines":1}}}`, "detail_argument"},
		{"deny climbing out of the prefix", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"path":"/srv/../etc","lines":1}}}`, "detail_argument"},
		{"deny number as text", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"path":"/srv/a","lines":"1"}}}`, "detail_argument"},
		{"deny argument missing", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"path":"/srv/a"}}}`, "detail_argument"},
		{"deny no arguments", one, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}`, "detail_argument"},
		{"deny resource", one, `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}`, "detail_tool"},
		{"deny listening to a resource", one, `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["file:///a"]}}}`, "detail_tool"},
		{"deny task", one, `{"jsonrpc":"2.0","id":1,"method":"tasks/result","params":{"taskId":"x"}}`, "detail_tool"},
		{"deny unknown method", one, `{"jsonrpc":"2.0","id":1,"method":"tools/other","params":{}}`, "detail_tool"},
		{"dependency_killed nothing counts", `[{"type":"mcp","max_calls":1}]`, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}`, "calls_not_counted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := asked(t, narrowed(t, tt.details), tt.raw)
			wantReason(t, judge(t, &details{}, x), tt.want)
			if tt.name == "pass inside" && x.Purpose != "report" {
				t.Errorf("purpose %q, want that of the detail", x.Purpose)
			}
		})
	}
	t.Run("pass not narrowed", func(t *testing.T) {
		t.Parallel()
		p := human()
		p.Purpose = "support"
		x := callOf(t, p, "read", "{}")
		wantReason(t, judge(t, &details{}, x), "")
		if x.Purpose != "support" {
			t.Errorf("purpose %q, want that of the token", x.Purpose)
		}
	})
	t.Run("deny answer to a question of a call outside", func(t *testing.T) {
		t.Parallel()
		p := narrowed(t, one)
		x := asked(t, p, `{"jsonrpc":"2.0","id":"q","result":{}}`)
		x.Parent = callOf(t, p, "write", "{}")
		wantReason(t, judge(t, &details{}, x), "detail_tool")
	})
	t.Run("max_calls", func(t *testing.T) { t.Parallel(); testUseLimit(t) })
}

func testUseLimit(t *testing.T) {
	t.Helper()
	store := state.NewMemory(newClock().now)
	p := narrowed(t, `[{"type":"mcp","tools":["read"],"max_calls":2},{"type":"mcp","tools":["read"],"max_calls":1},{"type":"mcp","tools":["list"]}]`)
	limit := &useLimit{uses: NewUses(store)}
	for i, want := range []warder.Reason{"", "", "", "detail_calls_used_up", "detail_calls_used_up"} {
		d := judge(t, limit, callOf(t, p, "read", "{}"))
		if d.Reason != want {
			t.Errorf("pass or deny of call %d: %q, want %q", i+1, d.Reason, want)
		}
	}
	wantReason(t, judge(t, limit, callOf(t, p, "list", "{}")), "")
	wantReason(t, judge(t, limit, asked(t, p, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)), "")
	q := narrowed(t, `[{"type":"mcp","max_calls":1}]`)
	q.TokenID = "t-2"
	wantReason(t, judge(t, limit, callOf(t, q, "read", "{}")), "")
	wantReason(t, judge(t, &useLimit{uses: deadUses{}}, callOf(t, q, "read", "{}")), "control_unavailable")
	wantReason(t, judge(t, &useLimit{}, callOf(t, q, "read", "{}")), "control_unavailable")
}

type deadUses struct{}

func (deadUses) Spend(context.Context, string, int, time.Time) (int, error) {
	return 0, errors.New("store is gone")
}

// TestUsesAreCountedOnce spends one number from many places at once.
func TestUsesAreCountedOnce(t *testing.T) {
	t.Parallel()
	uses := NewUses(state.NewMemory(nil))
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				left, err := uses.Spend(t.Context(), "id", 50, time.Now().Add(time.Hour))
				if err == nil && left >= 0 {
					got.Add(1)
				}
				if err != nil && !errors.Is(err, state.ErrConflict) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got.Load() != 50 {
		t.Errorf("%d uses of 50", got.Load())
	}
	if left, err := uses.Spend(t.Context(), "none", 0, time.Now()); left >= 0 || err != nil {
		t.Errorf("a limit of zero gives %d, %v", left, err)
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	p := narrowed(t, `[{"type":"mcp","server":"files","tools":["read"]},{"type":"mcp","server":"mail"}]`)
	agent := &warder.Agent{Tools: []string{"files/read", "mail/*"}}
	var got []string
	for _, c := range [][3]string{
		{"files", "tool", "read"},
		{"files", "tool", "write"},
		{"files", "resource", "file:///a"},
		{"files", "instructions", ""},
		{"mail", "tool", "send"},
		{"mail", "prompt", "x"},
		{"chat", "tool", "read"},
	} {
		if Covers(p, c[0], c[1], c[2]) {
			got = append(got, c[0]+" "+c[1]+" "+c[2])
		}
		q := human()
		q.Registered = agent
		if Covers(p, c[0], c[1], c[2]) != Covers(q, c[0], c[1], c[2]) {
			t.Errorf("%v: the agent's registration covers otherwise", c)
		}
	}
	if want := []string{"files tool read", "files instructions ", "mail tool send", "mail prompt x"}; !slices.Equal(got, want) {
		t.Errorf("covers %q, want %q", got, want)
	}
	if Covers(nil, "files", "tool", "read") || !Covers(human(), "files", "tool", "read") {
		t.Error("nobody is covered, or somebody without details is not")
	}
}
