package parity

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

// A run is one client at one front door, in one revision, in front of one kind of upstream.
type run struct {
	n        int
	door     warder.Door
	kind     string
	group    bool
	rev      warder.Revision
	endpoint string

	steps  []step
	client *client
	own    int // messages of the script that are no steps, such as the opening
}

func (r *run) String() string {
	return fmt.Sprintf("%s %s %s", r.door, r.endpoint, r.rev)
}

// runs lists every combination.
func runs() []*run {
	var out []*run
	for _, d := range []warder.Door{warder.DoorHTTP, warder.DoorSSE, warder.DoorStdio} {
		for _, k := range kinds() {
			for _, group := range []bool{false, true} {
				for _, rev := range warder.Revisions() {
					r := &run{n: len(out), door: d, kind: k, group: group, rev: rev, endpoint: k}
					if group {
						r.endpoint = "group-" + k
					}
					out = append(out, r)
				}
			}
		}
	}
	return out
}

// TestParity drives every run and then holds the audit trail against what both ends saw.
func TestParity(t *testing.T) {
	w := newWorld(t)
	methods := universe(t)
	all := runs()
	work := make(chan *run)
	var drivers sync.WaitGroup
	for range 6 {
		drivers.Go(func() {
			for r := range work {
				r.drive(t, w, methods)
			}
		})
	}
	for _, r := range all {
		work <- r
	}
	close(work)
	drivers.Wait()
	w.close(t)
	if t.Failed() {
		return
	}
	trail := readTrail(t, w)
	trail.shapes(t)
	trail.upstream(t, w)
	for _, r := range all {
		trail.delivered(t, r)
	}
	n := trail.compare(t, all)
	t.Logf("parity: %d combinations of door, mode, upstream, revision, direction and method in %d runs; %d exchanges in the trail", n, len(all), len(trail.events))
}

// drive runs the script through one door.
func (r *run) drive(t *testing.T, w *world, methods []string) {
	t.Helper()
	if r.door == warder.DoorStdio && strings.HasPrefix(r.kind, "child") {
		// One local user has one child: what it says outside calls cannot be told apart by run.
		w.alone.Lock()
		defer w.alone.Unlock()
	}
	c := &client{t: t, name: r.String(), rev: r.rev, answers: make(map[string]chan []byte)}
	r.client = c
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	token := w.token(t, fmt.Sprintf("run-%d", r.n), r.endpoint)
	url := w.url + "/mcp/" + r.endpoint
	switch r.door {
	case warder.DoorHTTP:
		c.door = &httpDoor{ctx: ctx, cancel: cancel, url: url, token: token, rev: r.rev, sink: c.take}
	case warder.DoorSSE:
		d, err := openSSE(ctx, w.url, url, token, c.take)
		if err != nil {
			t.Errorf("%s: %v", r, err)
			return
		}
		c.door = d
	case warder.DoorStdio:
		c.door = openStdio(ctx, w.app, r.endpoint, c.take)
	}
	closed := sync.OnceFunc(c.door.close)
	defer closed()
	s := &script{run: r.n, rev: r.rev}
	if r.group {
		s.prefix = r.kind + "__"
	}
	if opened := r.open(s); r.door == warder.DoorSSE && r.rev.Modern() {
		if opened {
			t.Errorf("%s: a stateless request passed on the transport of 2024-11-05", r)
		}
		return
	} else if !opened {
		t.Errorf("%s: no opening", r)
		return
	}
	for _, st := range s.fromClient(methods) {
		r.do(s, st)
	}
	for _, st := range s.fromServer(methods) {
		r.do(s, st)
	}
	for _, m := range []string{"sampling/createMessage", "roots/list"} { // answers that are errors
		c.fault = true
		r.do(s, s.emit("refusal of "+m, m))
		c.fault = false
	}
	r.outside(s, methods)
	r.batch(s)
	for n := -1; n != c.count(); time.Sleep(300 * time.Millisecond) { // what is on its way arrives
		n = c.count()
	}
	done := make(chan struct{})
	go func() { closed(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Errorf("%s: the door does not close", r)
	}
}

// open initializes a session, or discovers.
func (r *run) open(s *script) bool {
	if r.rev.Modern() {
		st := s.make("client server/discover", "server/discover", "{}", true)
		opened := parse(r.client.do(st)).Result != nil
		if r.door != warder.DoorSSE { // where it is refused
			r.steps = append(r.steps, st)
		}
		return opened
	}
	st := s.make("open", "initialize", fmt.Sprintf(`{"protocolVersion":%q,"capabilities":%s,"clientInfo":{"name":"c","version":"1"}}`, r.rev, clientCapabilities), true)
	r.steps = append(r.steps, st)
	if parse(r.client.do(st)).Result == nil {
		return false
	}
	st = s.make("opened", "notifications/initialized", "{}", false)
	r.steps = append(r.steps, st)
	r.client.do(st)
	if err := r.client.door.stream(); err != nil {
		r.client.t.Errorf("%s: %v", r, err)
		return false
	}
	return true
}

// do carries one step to its end, including the second round of a stateless call.
func (r *run) do(s *script, st step) {
	r.steps = append(r.steps, st)
	raw := r.client.do(st)
	var first struct {
		Result struct {
			Type     string                     `json:"resultType"`
			Requests map[string]json.RawMessage `json:"inputRequests"`
			State    json.RawMessage            `json:"requestState"`
		} `json:"result"`
	}
	if raw == nil || json.Unmarshal(raw, &first) != nil || first.Result.Type != "input_required" || !r.rev.Modern() {
		return
	}
	responses := make(map[string]json.RawMessage)
	for key, q := range first.Result.Requests {
		responses[key] = json.RawMessage(answerTo(parse(q).Method))
	}
	text, err := json.Marshal(responses)
	if err != nil {
		r.client.t.Errorf("%s: %v", r, err)
		return
	}
	r.client.do(s.retry(st, string(first.Result.State), string(text)))
}

// outside makes the server send every notification outside calls.
func (r *run) outside(s *script, methods []string) {
	if r.rev.Modern() {
		st := s.make("client subscriptions/listen", "subscriptions/listen", `{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["file:///r"]}}`, true)
		r.steps = append(r.steps, st)
		before := r.client.count()
		if err := r.client.door.send(st.raw, st); err != nil {
			r.client.t.Errorf("%s: %v", r, err)
		}
		for limit := time.Now().Add(5 * time.Second); r.client.count() == before && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
		if r.client.count() == before {
			r.client.t.Errorf("%s: nothing on the listen stream", r)
		}
	}
	for _, m := range methods {
		if !isRequest(m) {
			r.do(s, s.make("outside "+m, "tools/call", fmt.Sprintf(`{"name":"announce","arguments":{"what":%q,"n":"%d"}}`, m, s.n), true))
		}
	}
}

// batch sends three messages at once, as only 2025-03-26 may.
func (r *run) batch(s *script) {
	if r.rev.Modern() {
		return
	}
	steps := []step{
		s.make("batch notification", "notifications/roots/list_changed", "{}", false),
		s.make("batch ping", "ping", "{}", true),
		s.make("batch tools/list", "tools/list", "{}", true),
	}
	raw := []byte("[")
	for i, st := range steps {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = append(raw, st.raw...)
	}
	raw = append(raw, ']')
	if r.rev != warder.Revision20250326 {
		before := r.client.count()
		if err := r.client.door.send(raw, step{}); err != nil {
			r.client.t.Errorf("%s: batch: %v", r, err)
		}
		for limit := time.Now().Add(5 * time.Second); r.client.count() == before && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
		r.own++
		return
	}
	r.steps = append(r.steps, steps...)
	waiting := make([]chan []byte, 0, 2)
	r.client.mu.Lock()
	for _, st := range steps[1:] {
		c := make(chan []byte, 1)
		r.client.answers[st.id] = c
		waiting = append(waiting, c)
	}
	r.client.mu.Unlock()
	if err := r.client.door.send(raw, step{}); err != nil {
		r.client.t.Errorf("%s: batch: %v", r, err)
	}
	for i, c := range waiting {
		select {
		case <-c:
		case <-time.After(5 * time.Second):
			r.client.t.Errorf("%s: %s: no answer", r, steps[i+1].name)
		}
	}
}
