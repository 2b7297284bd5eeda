package statetest

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/warder-mcp/warder/internal/state"
)

// model compares a store with the simplest one that could be right, over random histories.
func model(t *testing.T, open Open) {
	t.Helper()
	clock := NewClock()
	s := open(t, clock.Now)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		m := &machine{t: rt, ctx: t, s: s, clock: clock, kind: "k" + string(rune('a'+round%26)) + time.Duration(round).String(), docs: map[string]state.Doc{}, old: map[string][]int64{}}
		var err error
		if m.after, err = s.Latest(t.Context()); err != nil {
			rt.Fatal(err)
		}
		m.followed = map[string]string{}
		rt.Repeat(map[string]func(*rapid.T){
			"put": m.put, "take": m.take, "delete": m.remove, "get": m.get, "list": m.list, "time": m.time, "follow": m.follow,
		})
		m.follow(rt)
	})
}

// A machine is a history of one kind of documents.
type machine struct {
	t        *rapid.T
	ctx      *testing.T
	s        state.Store
	clock    *Clock
	kind     string
	docs     map[string]state.Doc
	old      map[string][]int64 // versions that are over
	after    int64
	followed map[string]string // what a follower knows
}

func (m *machine) id(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "id")
}

func (m *machine) live(id string) (state.Doc, bool) {
	d, ok := m.docs[id]
	return d, ok && !d.Ended(m.clock.Now())
}

func (m *machine) put(t *rapid.T) {
	id := m.id(t)
	there, ok := m.live(id)
	if !ok {
		there = state.Doc{}
	}
	d := state.Doc{Kind: m.kind, ID: id, Version: there.Version, Body: rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "body")}
	if rapid.Bool().Draw(t, "ends") {
		d.NotAfter = m.clock.Now().Add(time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second)
	}
	stale := len(m.old[id]) > 0 && rapid.Bool().Draw(t, "stale")
	if stale {
		d.Version = rapid.SampledFrom(m.old[id]).Draw(t, "version")
	}
	out, err := m.s.Put(m.ctx.Context(), d)
	if stale {
		if !errors.Is(err, state.ErrConflict) {
			t.Fatalf("Put over an old version = %v, want ErrConflict", err)
		}
		return
	}
	if err != nil {
		t.Fatalf("Put: %v", err)
	}
	if slices.Contains(m.old[id], out[0].Version) || out[0].Version == there.Version {
		t.Fatalf("version %d was given twice", out[0].Version)
	}
	m.forget(id)
	m.docs[id] = out[0]
}

// forget notes that the version of a document is over.
func (m *machine) forget(id string) {
	if d, ok := m.docs[id]; ok {
		m.old[id] = append(m.old[id], d.Version)
		delete(m.docs, id)
	}
}

func (m *machine) take(t *rapid.T) {
	id := m.id(t)
	want, ok := m.live(id)
	got, err := m.s.Take(m.ctx.Context(), m.kind, id)
	switch {
	case !ok && !errors.Is(err, state.ErrNotFound):
		t.Fatalf("Take = %v, want ErrNotFound", err)
	case ok && (err != nil || !bytes.Equal(got.Body, want.Body) || got.Version != want.Version):
		t.Fatalf("Take = %+v, %v, want %+v", got, err, want)
	case ok:
		m.forget(id)
	}
}

func (m *machine) remove(t *rapid.T) {
	id := m.id(t)
	want, ok := m.live(id)
	version := int64(0)
	if ok && rapid.Bool().Draw(t, "exact") {
		version = want.Version
	} else if len(m.old[id]) > 0 && rapid.Bool().Draw(t, "stale") {
		version = rapid.SampledFrom(m.old[id]).Draw(t, "version")
	}
	err := m.s.Delete(m.ctx.Context(), m.kind, id, version)
	switch {
	case !ok:
		if !errors.Is(err, state.ErrNotFound) {
			t.Fatalf("Delete = %v, want ErrNotFound", err)
		}
	case version != 0 && version != want.Version:
		if !errors.Is(err, state.ErrConflict) {
			t.Fatalf("Delete = %v, want ErrConflict", err)
		}
	case err != nil:
		t.Fatalf("Delete: %v", err)
	default:
		m.forget(id)
	}
}

func (m *machine) get(t *rapid.T) {
	id := m.id(t)
	want, ok := m.live(id)
	got, err := m.s.Get(m.ctx.Context(), m.kind, id)
	if ok != (err == nil) || ok && (!bytes.Equal(got.Body, want.Body) || !got.NotAfter.Equal(want.NotAfter) || got.Version != want.Version) {
		t.Fatalf("Get = %+v, %v, want %v %+v", got, err, ok, want)
	}
}

func (m *machine) list(t *rapid.T) {
	var want []string
	for _, id := range slices.Sorted(maps.Keys(m.docs)) {
		if _, ok := m.live(id); ok {
			want = append(want, id)
		}
	}
	docs, err := m.s.List(m.ctx.Context(), state.Query{Kind: m.kind})
	var got []string
	for i := range docs {
		got = append(got, docs[i].ID)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("List = %v, %v, want %v", got, err, want)
	}
}

func (m *machine) time(t *rapid.T) {
	m.clock.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds")) * time.Second)
}

// follow reads changes and compares what a follower knows with what there is.
func (m *machine) follow(t *rapid.T) {
	for {
		docs, err := m.s.Changes(m.ctx.Context(), m.after, rapid.IntRange(1, 5).Draw(t, "limit"))
		if err != nil {
			t.Fatalf("Changes: %v", err)
		}
		if len(docs) == 0 {
			break
		}
		for i := range docs {
			d := &docs[i]
			m.after = d.Seq
			if d.Kind != m.kind {
				continue
			}
			if d.Ended(m.clock.Now()) {
				delete(m.followed, d.ID)
			} else {
				m.followed[d.ID] = string(d.Body)
			}
		}
	}
	for id, d := range m.docs {
		if _, ok := m.live(id); !ok {
			delete(m.followed, id)
			continue
		}
		if got, ok := m.followed[id]; !ok || got != string(d.Body) {
			t.Fatalf("the follower has %q, %v for %s, want %q", got, ok, id, d.Body)
		}
	}
	for id := range m.followed {
		if _, ok := m.live(id); !ok {
			t.Fatalf("the follower still has %s", id)
		}
	}
}
