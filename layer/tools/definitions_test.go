package tools

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"zero is strict", Config{}, true},
		{"default", Default(), true},
		{"first use", Config{Servers: map[string]Trust{"a": TrustFirstUse}}, true},
		{"negative refresh", Config{Refresh: -1}, false},
		{"unknown trust", Config{Trust: "always"}, false},
		{"unknown trust of a server", Config{Servers: map[string]Trust{"a": "First_Use"}}, false},
	}
	for _, tt := range tests {
		if err := tt.cfg.Check(); (err == nil) != tt.ok {
			t.Errorf("%s: Check = %v, want ok = %t", tt.name, err, tt.ok)
		}
	}
	if _, err := New(Config{}, Deps{}); err == nil {
		t.Error("New without dependencies succeeded")
	}
	if _, err := NewDefinitions(Config{}, nil, nil, nil); err == nil {
		t.Error("NewDefinitions without dependencies succeeded")
	}
}

func TestManyCallersCauseOneList(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.approve(t, kindTool, toolOf("a", ""))
	r.upstream.offer(kindTool, toolOf("a", ""))
	r.upstream.during = func() { time.Sleep(20 * time.Millisecond) }
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("a")))
			wantPass(t, d, err)
		})
	}
	wg.Wait()
	if n := r.upstream.asked.Load(); n != 1 {
		t.Errorf("32 callers caused %d lists, want one", n)
	}
}

func TestWaitingForTheListEndsWithTheContext(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	release := make(chan struct{})
	r.upstream.during = func() { <-release }
	x := r.exchange(t, legacy, wire.MethodToolsCall, call("a"))
	first := make(chan error, 1)
	go func() {
		_, _, err := r.definitions.find(context.WithoutCancel(t.Context()), x, kindTool, "a", false)
		first <- err
	}()
	for r.upstream.asked.Load() == 0 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := r.definitions.find(ctx, x, kindTool, "a", false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("find = %v, want the deadline", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("the first caller: %v", err)
	}
}

func TestPrincipalsAreApart(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.approve(t, kindTool, toolOf("a", "for alice"))
	r.upstream.offer(kindTool, toolOf("a", "for alice"))
	d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("a")))
	wantPass(t, d, err)

	r.upstream.offer(kindTool, toolOf("a", "for bob: a trap"))
	x := r.exchange(t, legacy, wire.MethodToolsCall, call("a"))
	x.Principal = &warder.Principal{Issuer: "https://idp.example", Subject: "bob"}
	d, err = r.request(t, x)
	wantRefusal(t, d, err, tdp04, warder.CodeQuarantined, "definition_changed")
	d, err = r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("a")))
	wantPass(t, d, err)
}

func TestPagesMakeOneList(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	var definitions []string
	for i := range 6 {
		definitions = append(definitions, toolOf(fmt.Sprintf("t%d", i), ""))
	}
	r.approve(t, kindTool, definitions...)
	r.upstream.stop(errors.New("must not be asked"))
	page := func(cursor, next string, defs ...string) {
		t.Helper()
		params, result := `{}`, resultOf("tools", defs...)
		if cursor != "" {
			params = fmt.Sprintf(`{"cursor":%q}`, cursor)
		}
		if next != "" {
			result = result[:len(result)-1] + fmt.Sprintf(`,"nextCursor":%q}`, next)
		}
		d, err := r.answer(t, r.exchange(t, legacy, wire.MethodToolsList, params), result)
		wantPass(t, d, err)
	}
	page("", "2", definitions[:2]...)
	page("2", "3", definitions[2:4]...)
	if d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("t0"))); err == nil {
		t.Errorf("half a list judges a call: %+v", d)
	}
	page("3", "", definitions[4:]...)
	for i := range definitions {
		d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call(fmt.Sprintf("t%d", i))))
		wantPass(t, d, err)
	}
	page("", "2", definitions[:2]...)
	page("9", "", definitions[:1]...) // not a page of this list: it says nothing about what is missing
	d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("t5")))
	wantPass(t, d, err)
	page("", "2", definitions[0])
	page("2", "", toolOf("t0", "another of the same name"))
	d, err = r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("t0")))
	wantRefusal(t, d, err, tdp04, warder.CodeQuarantined, "definition_invalid")
}

func TestAnOldAnswerDoesNotReplaceAYoungerList(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.approve(t, kindTool, toolOf("a", "old"), toolOf("a", "new"))
	slow := r.exchange(t, legacy, wire.MethodToolsList, `{}`)
	time.Sleep(time.Millisecond)
	r.upstream.offer(kindTool, toolOf("a", "new"))
	d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("a")))
	wantPass(t, d, err)
	d, err = r.answer(t, slow, resultOf("tools", toolOf("a", "old")))
	wantPass(t, d, err)
	d, err = r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("a")))
	wantPass(t, d, err)
}

func TestViewsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	for i := range 3 * keepViews {
		key := viewKey{server: "notes", kind: kindTool, subject: fmt.Sprint(i)}
		r.definitions.views.get(key, r.definitions.announced)
	}
	n := 0
	for _, m := range []*sync.Map{r.definitions.views.young.Load(), r.definitions.views.old.Load()} {
		m.Range(func(any, any) bool { n++; return true })
	}
	if n > 2*keepViews {
		t.Errorf("%d views kept, at most %d", n, 2*keepViews)
	}
}

// TestListsOfAHostileServerAreBounded lets a server invent a list for every principal.
func TestListsOfAHostileServerAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	const perList = 100
	r.definitions.limit = 2000
	byName := make(map[string]offer, perList)
	for i := range perList {
		byName[fmt.Sprint(i)] = offer{}
	}
	for i := range 200 {
		byName[fmt.Sprint(i)] = offer{usable: true, digest: warder.Digest{byte(i), byte(i >> 8), 1}}
		v := r.definitions.views.get(viewKey{subject: fmt.Sprint(i)}, r.definitions.announced)
		v.put(&listing{names: r.definitions.share(maps.Clone(byName))})
	}
	held := 0
	for _, m := range []*sync.Map{r.definitions.views.young.Load(), r.definitions.views.old.Load()} {
		m.Range(func(_, v any) bool {
			held += len(v.(*view).latest.Load().byName)
			return true
		})
	}
	if held > 2000 {
		t.Errorf("%d names are held, at most 2000", held)
	}
}

// manyTools are the definitions of a large server.
func manyTools(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"name":"tool-%04d","description":"Does the thing number %d, as described here at some length.","inputSchema":{"type":"object","properties":{"id":{"type":"integer"},"text":{"type":"string","maxLength":2000},"flags":{"type":"array","items":{"enum":["a","b","c"]}}},"required":["id"]}}`, i, i)
	}
	return list
}

// TestMemoryOfManyPrincipals keeps the lists of 10,000 principals, 2,000 tools each.
func TestMemoryOfManyPrincipals(t *testing.T) {
	r := newRig(t, Config{})
	r.upstream.offer(kindTool, manyTools(2000)...)
	d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("tool-0000")), mst01)
	wantRefusal(t, d, err, tdp04, warder.CodeQuarantined, "definition_unapproved")
	shared := r.definitions.views.get(keyOf(r.exchange(t, legacy, wire.MethodToolsCall, call("x")), kindTool), r.definitions.announced).latest.Load()

	const principals = 10_000
	before := heap()
	for i := range principals {
		v := r.definitions.views.get(viewKey{server: "notes", kind: kindTool, subject: fmt.Sprint(i)}, r.definitions.announced)
		same := shared.names
		if i%100 == 0 { // as a refresh does it
			same = r.definitions.share(maps.Clone(shared.byName))
		}
		v.put(&listing{names: same, asOf: shared.asOf})
	}
	grown := heap() - before
	t.Logf("%d principals: %d KB, %d bytes each", principals, grown>>10, grown/principals)
	if grown > 20<<20 {
		t.Errorf("%d principals cost %d MB, want at most 20", principals, grown>>20)
	}
	runtime.KeepAlive(r)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestCallAllocatesLittle counts what both controls allocate for a call in the ordinary case.
func TestCallAllocatesLittle(t *testing.T) {
	r := newRig(t, Config{})
	r.approve(t, kindTool, toolOf("a", ""))
	r.upstream.offer(kindTool, toolOf("a", ""))
	x := r.exchange(t, legacy, wire.MethodToolsCall, call("a"))
	ctx := t.Context()
	for _, c := range r.layer.Request {
		got := testing.AllocsPerRun(1000, func() {
			if d, err := c.Intercept(ctx, x); err != nil || d.Verdict != warder.Pass {
				t.Fatal(d, err)
			}
		})
		if got > 1 {
			t.Errorf("%s allocates %.1f times a call, want at most once", c.Control(), got)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	for _, n := range []int{10, 2000} {
		b.Run(fmt.Sprintf("tools=%d", n), func(b *testing.B) {
			r := newRig(b, Config{Trust: TrustFirstUse})
			r.upstream.offer(kindTool, manyTools(n)...)
			x := r.exchange(b, legacy, wire.MethodToolsCall, call("tool-0007"))
			ctx := b.Context()
			if d, err := r.request(b, x); err != nil || d.Verdict != warder.Pass {
				b.Fatal(d, err)
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, c := range r.layer.Request {
					if d, err := c.Intercept(ctx, x); err != nil || d.Verdict != warder.Pass {
						b.Fatal(d, err)
					}
				}
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	for _, n := range []int{10, 2000} {
		b.Run(fmt.Sprintf("tools=%d", n), func(b *testing.B) {
			r := newRig(b, Config{Trust: TrustFirstUse})
			raw := wire.Response([]byte("1"), []byte(resultOf("tools", manyTools(n)...)))
			x := r.exchange(b, legacy, wire.MethodToolsList, `{}`)
			if d, err := r.answer(b, x, resultOf("tools", manyTools(n)...)); err != nil || d.Verdict != warder.Pass {
				b.Fatal(d, err)
			}
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				m, err := wire.Decode(raw, wire.Limits{})
				if err != nil {
					b.Fatal(err)
				}
				x.Response = m
				if d, err := run(b.Context(), x, r.layer.Response, nil); err != nil || d.Verdict != warder.Pass {
					b.Fatal(d, err)
				}
			}
		})
	}
}

func BenchmarkDecodeList(b *testing.B) {
	raw := wire.Response([]byte("1"), []byte(resultOf("tools", manyTools(2000)...)))
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := wire.Decode(raw, wire.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
