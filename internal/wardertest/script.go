package wardertest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// A peer is one caller at one door.
type peer interface {
	hello() (refused *answer, err error)
	send(raw []byte, id string, own bool) (answer, error)
	listen(request []byte) (refused *answer, err error)
	streamed() string // what came on streams
	close()
}

// An act is one run of a case: one door, one revision.
type act struct {
	r     *runner
	door  warder.Door
	rev   warder.Revision
	peers map[string]peer
	next  int    // id of the next message
	state string // requestState of the last unfinished answer
}

// play runs the script of the case, or sends its one message. The last answer counts.
func (r *runner) play(door warder.Door, rev warder.Revision) (answer, error) {
	a := &act{r: r, door: door, rev: rev, peers: make(map[string]peer), next: 100}
	defer func() {
		for _, p := range a.peers {
			p.close()
		}
	}()
	if r.c.sections["script"] == "" {
		return a.plain()
	}
	var last answer
	for line := range strings.Lines(r.c.sections["script"]) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		got, err := a.step(line)
		if err != nil {
			return last, fmt.Errorf("%.200s: %w", line, err)
		}
		if got != nil {
			last = *got
		}
	}
	if strings.Contains(r.c.sections["script"], "open") {
		last.text += "\n" + a.peers["ada"].streamed()
	}
	return last, nil
}

// plain sends the one message of the case, as often as it says.
func (a *act) plain() (answer, error) {
	if a.r.c.key("list_first", "") == "yes" {
		if got, err := a.send("ada", `{"method":"tools/list"}`, false); err != nil {
			return *got, err
		}
	}
	spec := a.r.c.sections["request"]
	if spec == "" {
		spec = defaultRequest
	}
	var last answer
	for range a.r.c.number("repeat", 1) {
		got, err := a.send("ada", spec, true)
		if err != nil {
			return last, err
		}
		last = *got
	}
	return last, nil
}

// step does one line of a script. Only messages have an answer.
func (a *act) step(line string) (*answer, error) {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "send":
		return a.send("ada", rest, true)
	case "as", "steal":
		name, spec, _ := strings.Cut(rest, " ")
		if verb == "steal" {
			if err := a.steal(name); err != nil {
				return nil, err
			}
		}
		return a.send(name, spec, true)
	case "open":
		return a.open(rest)
	case "tools":
		a.r.server.change(rest)
		return nil, nil
	case "push":
		return nil, a.r.server.push(rest)
	case "await":
		return nil, a.await(rest)
	case "wait":
		d, err := time.ParseDuration(rest)
		time.Sleep(d)
		return nil, err
	case "approve", "refuse", "revoke", "posture":
		return nil, a.operate(verb, rest)
	default:
		return nil, fmt.Errorf("unknown verb %q", verb)
	}
}

// peer returns the caller of that name, making it if need be.
func (a *act) peer(name string) (peer, error) {
	if p, ok := a.peers[name]; ok {
		return p, nil
	}
	if a.door == warder.DoorStdio {
		if name != "ada" {
			return nil, fmt.Errorf("a pipe has one user: no caller %s", name)
		}
		a.peers[name] = a.r.newPipePeer(a.rev)
	} else {
		a.peers[name] = a.r.newHTTPPeer(a.rev, name, nil)
	}
	return a.peers[name], nil
}

// steal makes a caller that presents its own token with the session of ada.
func (a *act) steal(name string) error {
	owner, err := a.peer("ada")
	if err != nil {
		return err
	}
	if a.door == warder.DoorStdio {
		return fmt.Errorf("a pipe has one user: no caller %s", name)
	}
	a.peers[name] = a.r.newHTTPPeer(a.rev, name, owner)
	return nil
}

// send sends one message and follows it through the questions of the server.
func (a *act) send(name, spec string, own bool) (*answer, error) {
	p, err := a.peer(name)
	if err != nil {
		return nil, err
	}
	if refused, err := p.hello(); err != nil || refused != nil {
		return refused, err
	}
	spec = strings.ReplaceAll(spec, "{{state}}", a.state)
	for range 8 {
		raw, id, err := a.r.c.message(spec, a.rev, a.next)
		if verbatim := a.r.c.sections["raw"]; verbatim != "" && own {
			raw, id, err = []byte(strings.ReplaceAll(verbatim, "{{meta}}", a.r.c.meta(a.rev))), "*", nil
		}
		if err != nil {
			return nil, err
		}
		a.next++
		got, err := p.send(raw, id, own)
		if err != nil {
			return nil, err
		}
		state, responses, more := a.r.c.unfinished(got.text)
		if more {
			a.state = state
		}
		if !more || a.r.c.key("answers", "yes") == "no" {
			return &got, nil
		}
		if spec, err = again(spec, state, responses); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the server asks and asks")
}

// again is the message with the answers to its questions.
func again(spec, state, responses string) (string, error) {
	var m struct {
		Method string                     `json:"method"`
		Params map[string]json.RawMessage `json:"params"`
	}
	if err := json.Unmarshal([]byte(spec), &m); err != nil {
		return "", err
	}
	m.Params["requestState"], _ = json.Marshal(state) // text always marshals
	m.Params["inputResponses"] = json.RawMessage(responses)
	out, err := json.Marshal(m)
	return string(out), err
}

// open opens a stream of messages outside calls. Its argument are further members of the filter.
func (a *act) open(filter string) (*answer, error) {
	p, err := a.peer("ada")
	if err != nil {
		return nil, err
	}
	if refused, err := p.hello(); err != nil || refused != nil {
		return refused, err
	}
	spec := `{"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true` + filter + `}}}`
	raw, _, err := a.r.c.message(spec, a.rev, a.next)
	if err != nil {
		return nil, err
	}
	a.next++
	return p.listen(raw)
}

// await waits until a text has come on the stream.
func (a *act) await(text string) error {
	p, err := a.peer("ada")
	if err != nil {
		return err
	}
	for end := time.Now().Add(patience); !strings.Contains(p.streamed(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("it did not come, but %.500s", p.streamed())
		}
	}
	return nil
}
