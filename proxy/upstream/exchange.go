package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// An exchange is one request over HTTP and what comes back.
type exchange struct {
	link     *httpLink
	watch    *watch
	yield    func(*warder.Message, error) bool
	call     call
	sent     payload
	bytes    int64
	answered bool
	kept     bool // a goroutine drains the stream and ends the watch
}

func (x *exchange) finish() {
	if !x.link.modern {
		x.link.release(&x.call)
	}
	if !x.kept {
		x.watch.stop()
	}
}

// judge reads the response.
func (x *exchange) judge(resp *http.Response) error {
	kind := mediaOf(resp.Header)
	switch {
	case resp.StatusCode == http.StatusOK && kind == mediaJSON:
		return x.single(resp)
	case resp.StatusCode == http.StatusOK && kind == mediaEvents:
		return x.stream(resp)
	case resp.StatusCode >= 400 && kind == mediaJSON && (resp.StatusCode != http.StatusNotFound || x.link.session == nil):
		return x.errorBody(resp)
	}
	discard(resp)
	switch resp.StatusCode {
	case http.StatusOK:
		return failf(ReasonMediaType, "content-type %.60q", resp.Header.Get(hdrContentType))
	case http.StatusAccepted, http.StatusNoContent:
		return failf(ReasonNoAnswer, "status %d", resp.StatusCode)
	default:
		return x.link.refused(resp)
	}
}

// single reads a body that is the answer.
func (x *exchange) single(resp *http.Response) error {
	raw, err := readBody(resp, int64(x.link.srv.cfg.MaxMessage))
	if err != nil {
		return x.because(err)
	}
	list, err := x.link.batches(raw)
	if err != nil {
		return err
	}
	for _, raw := range list {
		m, err := wire.Decode(raw, x.link.srv.lim)
		if err != nil {
			return undecodable(err)
		}
		if err := x.take(m, len(list) == 1); err != nil || x.answered {
			return err
		}
	}
	return failf(ReasonNoAnswer, "the body is not an answer")
}

// errorBody reads the body of a refusal: a JSON-RPC error is the server's answer.
func (x *exchange) errorBody(resp *http.Response) error {
	raw, err := readBody(resp, int64(x.link.srv.cfg.MaxMessage))
	if err != nil {
		return x.because(err)
	}
	m, err := wire.Decode(raw, x.link.srv.lim)
	if err != nil || m.Kind != warder.KindError || m.ID.Present() && !sameID(m.IDBytes(), x.call.sent) {
		return x.link.refused(resp)
	}
	if resp.StatusCode == http.StatusUnauthorized {
		x.link.srv.forgetCredentials()
	}
	return x.take(m, true)
}

// because prefers the reason for which the call was ended to the broken read that follows from it.
func (x *exchange) because(err error) error {
	if x.watch.ctx.Err() != nil {
		return ended(x.watch.ctx)
	}
	return err
}

// take judges one message and yields it. Strict means that an answer to something else fails the
// call; on a stream it is dropped.
func (x *exchange) take(m *warder.Message, strict bool) error {
	s := x.link.srv
	x.bytes += int64(len(m.Raw))
	if !x.call.subscribing && x.bytes > int64(s.cfg.MaxResponse) {
		return failf(ReasonTooLarge, "the answer has more than %d bytes", s.cfg.MaxResponse)
	}
	var err error
	switch m.Kind {
	case warder.KindResult, warder.KindError:
		if m.ID.Present() && !sameID(m.IDBytes(), x.call.sent) {
			s.finding(findUnknownID, "")
			if strict {
				return fail(ReasonWrongID, errors.New("the answer carries another id"))
			}
			return nil
		}
		if m, err = x.call.answer(m, s.lim); err != nil {
			return undecodable(err)
		}
		x.answered = true
	case warder.KindNotification:
		if m = x.notification(m); m == nil {
			return nil
		}
	case warder.KindRequest:
		if m = x.question(m); m == nil {
			return nil
		}
	}
	return x.hand(m)
}

// hand gives the message to the consumer, whose time does not count as the server's.
func (x *exchange) hand(m *warder.Message) error {
	x.watch.pause()
	if x.answered {
		x.yield(m, nil) // whether the consumer goes on makes no difference any more
		return nil
	}
	if !x.yield(m, nil) {
		return errBroken
	}
	x.call.mu.Lock()
	waiting := x.call.pending > 0
	x.call.mu.Unlock()
	if !waiting {
		x.watch.resume()
	}
	return nil
}

// notification restores the client's names; nil means it is dropped.
func (x *exchange) notification(m *warder.Message) *warder.Message {
	s := x.link.srv
	if x.link.pooled && m.Method == wire.NotifyProgress && !sameID(m.At(m.Params.Get("progressToken")), x.call.sentToken) {
		s.finding(findToken, m.Method)
		return nil
	}
	out, err := x.call.notification(x.link.withdrawn(m), s.lim)
	if err != nil {
		s.finding(findMalformed, m.Method)
		return nil
	}
	return out
}

// question admits a request of the server; nil means it is dropped or already answered.
func (x *exchange) question(m *warder.Message) *warder.Message {
	if x.link.modern {
		x.link.srv.finding(findForbidden, m.Method)
		return nil
	}
	if x.link.pong(m) {
		return nil
	}
	x.call.mu.Lock()
	x.call.answered = x.watch.resume
	x.call.pending++
	x.call.mu.Unlock()
	q, ok := x.link.admit(m, &x.call)
	if !ok {
		x.call.settled()
		return nil
	}
	return q.msg
}

// stream reads an event stream until the answer. A legacy server may end it early and be asked for
// the rest (2025-11-25, SEP-1699).
func (x *exchange) stream(resp *http.Response) error {
	var at cursor
	for failures := 0; ; {
		events, err := x.events(resp, &at)
		if x.answered || err != nil {
			return err
		}
		if events > 0 {
			failures = 0
		} else {
			failures++
		}
		if resp, err = x.resume(&at, failures); err != nil {
			return err
		}
	}
}

// A cursor is where a broken stream goes on.
type cursor struct {
	id    string
	retry time.Duration
}

// note takes the fields of an event that concern reconnecting.
func (c *cursor) note(e wire.Event) {
	if e.HasID {
		c.id = e.ID
	}
	if e.Retry >= 0 {
		c.retry = min(e.Retry, 30*time.Second)
	}
}

// events reads one stream and returns how many events came. A nil error without an answer means
// that the stream ended.
func (x *exchange) events(resp *http.Response, at *cursor) (n int, err error) {
	r := wire.NewEventReader(resp.Body, int64(x.link.srv.cfg.MaxMessage))
	defer func() {
		if !x.kept {
			_ = resp.Body.Close() // what matters was read
		}
	}()
	for {
		e, err := r.Next()
		switch {
		case err == nil:
		case x.watch.ctx.Err() != nil:
			return n, ended(x.watch.ctx)
		case errors.Is(err, &warder.Error{Code: warder.CodeTooLarge}):
			return n, undecodable(err)
		case x.link.modern || at.id == "":
			return n, closedBy(err)
		default:
			return n, nil
		}
		if e.Comment {
			continue
		}
		n++
		at.note(e)
		if err := x.event(e); err != nil {
			return n, err
		}
		if x.answered {
			x.drain(resp, r)
			return n, nil
		}
	}
}

// event takes the message or messages of one event.
func (x *exchange) event(e wire.Event) error {
	if len(e.Data) == 0 || e.Name != "" && e.Name != "message" {
		return nil
	}
	list, err := x.link.batches(e.Data)
	if err != nil {
		return err
	}
	for _, raw := range list {
		m, err := wire.Decode(raw, x.link.srv.lim)
		if err != nil {
			return undecodable(err)
		}
		if err := x.take(m, false); err != nil || x.answered {
			return err
		}
	}
	return nil
}

// drain reads on behind the answer for a moment, so that the connection can be used again, and
// counts messages that have no business there.
func (x *exchange) drain(resp *http.Response, r *wire.EventReader) {
	if resp.ProtoMajor != 1 {
		return
	}
	x.kept = true
	stop := time.AfterFunc(drainTime, func() { x.watch.cancel(errIdle) })
	s := x.link.srv
	started := s.spawn(func(context.Context) {
		defer x.watch.stop()
		defer resp.Body.Close()
		defer stop.Stop()
		for range 16 {
			e, err := r.Next()
			if err != nil {
				return
			}
			if len(e.Data) > 0 && !e.Comment {
				s.finding(findAfterAnswer, "")
			}
		}
	})
	if !started {
		stop.Stop()
		x.kept = false
	}
}

// maxResumes is how often a stream may end in a row without a single event.
const maxResumes = 5

// resume asks for the rest of a stream that ended before the answer.
func (x *exchange) resume(at *cursor, failures int) (*http.Response, error) {
	for ; failures < maxResumes; failures++ {
		if err := x.wait(at.retry); err != nil {
			return nil, err
		}
		resp, err := x.link.get(x.watch.ctx, at.id)
		if err == nil {
			return resp, nil
		}
		if x.watch.ctx.Err() != nil {
			return nil, ended(x.watch.ctx)
		}
		if !countsAgainst(err) {
			return nil, err
		}
		at.retry = max(2*at.retry, 200*time.Millisecond)
	}
	return nil, closedBy(io.ErrUnexpectedEOF)
}

func (x *exchange) wait(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-x.watch.ctx.Done():
		return ended(x.watch.ctx)
	case <-x.link.done:
		return x.link.Err()
	}
}
