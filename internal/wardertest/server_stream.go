package wardertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"
)

// patience bounds every wait of the harness.
const patience = 10 * time.Second

// A stream is one on which the server sends messages outside calls.
type stream struct {
	messages chan string
	id       json.RawMessage // of subscriptions/listen; nil for the stream of a session
	run      int             // in which it was opened
}

func events(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
}

func event(w http.ResponseWriter, message string) {
	_, _ = fmt.Fprintf(w, "data: %s\n\n", message) // the gateway may be gone
	_ = http.NewResponseController(w).Flush()      // the gateway may be gone
}

// stream serves the stream of a session, or of subscriptions/listen.
func (s *server) stream(w http.ResponseWriter, r *http.Request, id json.RawMessage) {
	st := &stream{messages: make(chan string, 256), id: id}
	s.mu.Lock()
	st.run = s.runs
	s.streams[st] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, st)
		s.mu.Unlock()
	}()
	events(w)
	if id != nil {
		event(w, fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s},"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}}}`, id))
	} else {
		event(w, `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"debug","data":"open"}}`)
	}
	for {
		select {
		case m := <-st.messages:
			event(w, m)
		case <-r.Context().Done():
			return
		case <-s.silent:
			return
		}
	}
}

// push sends a message on every open stream. It waits until one was opened in this run; one of an
// earlier run will do if the gateway kept it.
func (s *server) push(spec string) error {
	var m struct {
		Method string                     `json:"method"`
		Params map[string]json.RawMessage `json:"params"`
	}
	if err := json.Unmarshal([]byte(spec), &m); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	const kept = time.Second
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		own, all := s.listeners()
		waited := time.Since(begun)
		switch {
		case own > 0, all > 0 && waited > kept:
			s.broadcast(m.Method, m.Params)
			return nil
		case waited > patience:
			return errors.New("push: nobody listens to the server")
		}
	}
}

// listeners counts the streams of this run, and all.
func (s *server) listeners() (own, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		if st.run == s.runs {
			own++
		}
	}
	return own, len(s.streams)
}

func (s *server) broadcast(method string, params map[string]json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		p := map[string]json.RawMessage{}
		maps.Copy(p, params)
		if st.id != nil {
			p["_meta"] = fmt.Appendf(nil, `{"io.modelcontextprotocol/subscriptionId":%s}`, st.id)
		}
		raw, _ := json.Marshal(p) // raw values always marshal
		st.messages <- fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"params":%s}`, method, raw)
	}
}

// question asks the client what the question section says, one question a line, before the answer;
// false if that has been done and the answer is due.
func (s *server) question(w http.ResponseWriter, r *http.Request, m *call, answer string) bool {
	lines := strings.Split(s.c.sections["question"], "\n")
	if m.modern() {
		if m.Params.Responses != nil {
			return false
		}
		asked := make([]string, len(lines))
		for i, line := range lines {
			asked[i] = fmt.Sprintf(`"q%d":%s`, i+1, line)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"input_required","requestState":"state of the server","inputRequests":{%s}}}`, m.ID, strings.Join(asked, ",")) // the gateway may be gone
		return true
	}
	events(w)
	for _, line := range lines {
		id := fmt.Sprintf("ask-%d", s.asked.Add(1))
		done := make(chan struct{})
		s.mu.Lock()
		s.waiting[`"`+id+`"`] = done
		s.mu.Unlock()
		event(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,%s`, id, strings.TrimPrefix(strings.TrimSpace(line), "{")))
		select {
		case <-done:
		case <-r.Context().Done():
			return true
		case <-time.After(patience):
			return true
		}
	}
	event(w, answer)
	return true
}

// answered notes the answer to a question.
func (s *server) answered(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done, ok := s.waiting[id]; ok {
		delete(s.waiting, id)
		close(done)
	}
}
