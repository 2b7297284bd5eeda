package proxy

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder/wire"
)

// A replayStream keeps the events of one SSE stream of a session, so that a client whose connection
// broke can come back with Last-Event-ID and lose nothing (revisions up to 2025-11-25). It is bounded:
// when its room is used up the oldest events go, and a client that asks for them starts a new request.
type replayStream struct {
	id      string
	number  uint64 // of the streams of its session
	listens bool   // it belongs to no call

	mu     sync.Mutex
	first  int      // sequence number of events[0]
	events [][]byte // encoded, in order
	data   [][]byte // of the same events; kept of streams outside calls, which go on under new ids
	size   int
	gone   int           // events dropped since the arrays were made
	held   *atomic.Int64 // bytes kept by all streams; nil counts nothing
	ended  bool
	wake   chan struct{} // closed and replaced when something was added
}

func newReplayStream(id string, listens bool) *replayStream {
	return &replayStream{id: id, listens: listens, first: 1, wake: make(chan struct{})}
}

// add encodes an event with its id, keeps it, and returns its bytes.
func (s *replayStream) add(data []byte, retry time.Duration) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.size
	id := s.id + "-" + strconv.Itoa(s.first+len(s.events))
	raw := wire.AppendEvent(nil, wire.Event{ID: id, HasID: true, Retry: retry, Data: data})
	s.events = append(s.events, raw)
	if s.listens {
		s.data = append(s.data, bytes.Clone(data))
		s.size += len(data)
	}
	s.size += len(raw)
	for s.size > maxReplayBytes && len(s.events) > 1 {
		s.size -= s.shift()
	}
	s.account(s.size - before)
	if s.held != nil && s.held.Load() > maxReplayTotal {
		s.empty() // all streams together keep too much: this one cannot be resumed from here
	}
	close(s.wake)
	s.wake = make(chan struct{})
	return raw
}

// shift drops the oldest event and returns its bytes. The caller holds mu.
func (s *replayStream) shift() (size int) {
	size = len(s.events[0])
	s.events = s.events[1:]
	if s.listens {
		size += len(s.data[0])
		s.data = s.data[1:]
	}
	s.first++
	if s.gone++; s.gone > len(s.events) { // the arrays still hold what was dropped; readers may have them
		s.events, s.data, s.gone = slices.Clone(s.events), slices.Clone(s.data), 0
	}
	return size
}

// empty drops every event. The caller holds mu.
func (s *replayStream) empty() {
	s.first += len(s.events)
	s.events, s.data, s.gone = nil, nil, 0
	s.account(-s.size)
	s.size = 0
}

func (s *replayStream) account(bytes int) {
	if s.held != nil {
		s.held.Add(int64(bytes))
	}
}

// drop lets go of a stream that nobody can resume any more.
func (s *replayStream) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.empty()
}

// end marks the stream as complete.
func (s *replayStream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	close(s.wake)
	s.wake = make(chan struct{})
}

// after calls write for every event after sequence number seq, waiting for new ones until the stream
// ends or ctx does.
func (s *replayStream) after(ctx context.Context, seq int, write func([]byte) error) error {
	for next := seq + 1; ; {
		s.mu.Lock()
		next = max(next, s.first)
		pending := s.events[min(next-s.first, len(s.events)):]
		ended, wake := s.ended, s.wake
		s.mu.Unlock()
		for _, raw := range pending {
			if err := write(raw); err != nil {
				return err
			}
			next++
		}
		if len(pending) > 0 {
			continue
		}
		if ended {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// missed returns the messages after sequence number seq of a stream outside calls.
func (s *replayStream) missed(seq int) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [][]byte
	for i, data := range s.data {
		if s.first+i > seq && len(data) > 0 {
			out = append(out, data)
		}
	}
	return out
}

// stream opens a resumable stream of the session. Beyond the bound the oldest that has ended goes; when
// none has ended the new stream is not resumable and nil is returned.
func (s *session) stream(listens bool) *replayStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams) >= maxReplayStreams && !s.dropEnded() {
		return nil
	}
	s.lastStream++
	r := newReplayStream(strconv.FormatUint(s.lastStream, 36), listens)
	r.number, r.held = s.lastStream, s.held
	if s.streams == nil {
		s.streams = make(map[string]*replayStream)
	}
	s.streams[r.id] = r
	return r
}

// dropEnded forgets the oldest stream that has ended; false if none has. The caller holds mu.
func (s *session) dropEnded() bool {
	var oldest *replayStream
	for _, r := range s.streams {
		if r.done() && (oldest == nil || r.number < oldest.number) {
			oldest = r
		}
	}
	if oldest == nil {
		return false
	}
	delete(s.streams, oldest.id)
	oldest.drop()
	return true
}

func (s *replayStream) done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// forget drops a finished stream after its clients had time to come back.
func (s *session) forget(r *replayStream) {
	r.end()
	time.AfterFunc(replayKeep, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, r.id)
		r.drop()
	})
}

// resume finds the stream and the sequence number that an event id names.
func (s *session) resume(eventID string) (r *replayStream, seq int, ok bool) {
	id, number, found := strings.Cut(eventID, "-")
	seq, err := strconv.Atoi(number)
	if !found || err != nil || seq < 0 {
		return nil, 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r = s.streams[id]
	return r, seq, r != nil
}
