package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// NoRetry is Event.Retry when the event says nothing about reconnecting.
const NoRetry time.Duration = -1

// An Event is one server-sent event, or one comment
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type Event struct {
	ID      string        // with HasID; empty resets the last event id
	Name    string        // event type; empty means "message"
	Retry   time.Duration // reconnection time; NoRetry if not given
	Data    []byte        // joined with newlines; owned by the receiver
	HasID   bool          // the event has an id field
	Comment bool          // a comment line, its text in Data; used as keep-alive
}

// An EventReader reads server-sent events from a stream. It is used by one goroutine.
type EventReader struct {
	r      *bufio.Reader
	max    int64
	line   []byte
	size   int64 // bytes of the event at hand
	skipLF bool  // the last line ended in CR: a LF right behind it belongs to it
	begun  bool  // the byte order mark was looked for
	err    error // sticky
}

// NewEventReader returns a reader that refuses events of more than maxEvent bytes; zero or less
// means the default of Limits.Bytes.
func NewEventReader(r io.Reader, maxEvent int64) *EventReader {
	if maxEvent <= 0 {
		maxEvent = defaultBytes
	}
	return &EventReader{r: bufio.NewReader(r), max: maxEvent}
}

// Next returns the next event. Events without data are returned too if they carry an id, a name or
// a retry time. It ends with io.EOF, with io.ErrUnexpectedEOF when the stream ends inside an event,
// with a *warder.Error of CodeTooLarge when an event is too large, or with the stream's error; every
// later call returns the same.
func (r *EventReader) Next() (Event, error) {
	if r.err != nil {
		return Event{}, r.err
	}
	e, err := r.next()
	if err != nil {
		r.err = err
		return Event{}, err
	}
	return e, nil
}

func (r *EventReader) next() (Event, error) {
	e, seen, hasData := Event{Retry: NoRetry}, false, false
	r.size = 0
	for {
		line, err := r.readLine()
		switch {
		case errors.Is(err, io.EOF) && (seen || len(line) > 0):
			return e, io.ErrUnexpectedEOF
		case err != nil:
			return e, err
		case len(line) == 0 && seen:
			return e, nil
		case len(line) == 0:
			r.size = 0
			continue
		case line[0] == ':' && !seen:
			return Event{Retry: NoRetry, Comment: true, Data: bytes.Clone(oneSpace(line[1:]))}, nil
		case line[0] == ':':
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = oneSpace(value)
		switch string(name) {
		case "data":
			if hasData {
				e.Data = append(e.Data, '\n')
			}
			e.Data, hasData, seen = append(e.Data, value...), true, true
		default:
			seen = e.field(string(name), string(value)) || seen
		}
	}
}

// field takes a field other than data and reports whether it means anything.
func (e *Event) field(name, value string) bool {
	switch name {
	case "event":
		e.Name = value
	case "id":
		if strings.IndexByte(value, 0) >= 0 {
			return false
		}
		e.ID, e.HasID = value, true
	case "retry":
		ms, err := strconv.ParseInt(value, 10, 64)
		if err != nil || value[0] < '0' || value[0] > '9' || ms > math.MaxInt64/int64(time.Millisecond) {
			return false
		}
		e.Retry = time.Duration(ms) * time.Millisecond
	default:
		return false
	}
	return true
}

// oneSpace drops the one space that may follow a colon.
func oneSpace(b []byte) []byte {
	if len(b) > 0 && b[0] == ' ' {
		return b[1:]
	}
	return b
}

// readLine reads up to CR, LF or CR LF. It never waits for a byte behind the line's end. The line is
// good until the next call.
func (r *EventReader) readLine() ([]byte, error) {
	r.line = r.line[:0]
	for {
		if _, err := r.r.Peek(1); err != nil {
			return r.line, err
		}
		chunk, _ := r.r.Peek(r.r.Buffered())
		if r.skipLF {
			r.skipLF = false
			if chunk[0] == '\n' {
				r.discard(1)
				continue
			}
		}
		end := bytes.IndexAny(chunk, "\r\n")
		take := len(chunk)
		if end >= 0 {
			take = end
		}
		r.size += int64(take) + 1
		if r.size > r.max+1 {
			return nil, warder.Fail(warder.CodeTooLarge, ReasonTooLarge, nil)
		}
		r.line = append(r.line, chunk[:take]...)
		if end < 0 {
			r.discard(take)
			r.size--
			continue
		}
		r.skipLF = chunk[end] == '\r'
		r.discard(take + 1)
		r.mark()
		return r.line, nil
	}
}

func (r *EventReader) discard(n int) { _, _ = r.r.Discard(n) } // n bytes are buffered: it cannot fail

// mark drops the byte order mark that may begin the stream.
func (r *EventReader) mark() {
	if !r.begun {
		r.line = bytes.TrimPrefix(r.line, []byte("\xef\xbb\xbf"))
		r.begun = true
	}
}

// AppendEvent appends an event in its wire form. Data may hold line breaks, which come back as
// newlines; an id or name with a line break or U+0000 is left out, as it could not be said. Retry is
// written when it is positive.
func AppendEvent(dst []byte, e Event) []byte {
	if e.Comment {
		return append(appendLines(dst, ": ", e.Data), '\n')
	}
	if e.HasID && sayable(e.ID) {
		dst = append(append(append(dst, "id: "...), e.ID...), '\n')
	}
	if e.Name != "" && sayable(e.Name) {
		dst = append(append(append(dst, "event: "...), e.Name...), '\n')
	}
	if e.Retry > 0 {
		dst = strconv.AppendInt(append(dst, "retry: "...), e.Retry.Milliseconds(), 10)
		dst = append(dst, '\n')
	}
	return append(appendLines(dst, "data: ", e.Data), '\n')
}

func sayable(s string) bool { return !strings.ContainsAny(s, "\r\n\x00") }

// appendLines appends every line of data behind the field name.
func appendLines(dst []byte, field string, data []byte) []byte {
	for {
		line := data
		end := bytes.IndexAny(data, "\r\n")
		if end >= 0 {
			line = data[:end]
		}
		dst = append(append(append(dst, field...), line...), '\n')
		if end < 0 {
			return dst
		}
		if data[end] == '\r' && end+1 < len(data) && data[end+1] == '\n' {
			end++
		}
		data = data[end+1:]
	}
}
