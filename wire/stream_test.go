package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

// readEvents reads all events and the error that ends them.
func readEvents(r io.Reader, limit int64) ([]Event, error) {
	var out []Event
	reader := NewEventReader(r, limit)
	for {
		e, err := reader.Next()
		if err != nil {
			if _, again := reader.Next(); !errors.Is(again, err) {
				return out, errors.New("the error does not stay")
			}
			return out, err
		}
		out = append(out, e)
	}
}

func TestEventReader(t *testing.T) {
	t.Parallel()
	data := func(s string) Event { return Event{Retry: NoRetry, Data: []byte(s)} }
	for _, c := range []struct {
		name, in string
		want     []Event
		end      error
	}{
		{"one", "data: x\n\n", []Event{data("x")}, io.EOF},
		{"CR LF", "data: x\r\n\r\ndata: y\r\n\r\n", []Event{data("x"), data("y")}, io.EOF},
		{"CR", "data: x\r\rdata: y\r\r", []Event{data("x"), data("y")}, io.EOF},
		{"mixed line ends", "data: x\r\ndata: y\rdata: z\n\r", []Event{data("x\ny\nz")}, io.EOF},
		{"byte order mark", "\xef\xbb\xbfdata: x\n\n", []Event{data("x")}, io.EOF},
		{"byte order mark later is a field", "data: x\n\n\xef\xbb\xbfdata: y\n\n", []Event{data("x")}, io.EOF},
		{"no space", "data:x\n\n", []Event{data("x")}, io.EOF},
		{"two spaces", "data:  x\n\n", []Event{data(" x")}, io.EOF},
		{"no colon", "data\n\n", []Event{{Retry: NoRetry}}, io.EOF},
		{
			"all fields", "event: message\nid: 7\nretry: 1500\ndata: {\ndata: }\n\n",
			[]Event{{Name: "message", ID: "7", HasID: true, Retry: 1500 * time.Millisecond, Data: []byte("{\n}")}},
			io.EOF,
		},
		{"prime event", "id: s-1\ndata: \n\n", []Event{{ID: "s-1", HasID: true, Retry: NoRetry}}, io.EOF},
		{"id alone", "id: s-1\n\n", []Event{{ID: "s-1", HasID: true, Retry: NoRetry}}, io.EOF},
		{"id reset", "id\ndata: x\n\n", []Event{{HasID: true, Retry: NoRetry, Data: []byte("x")}}, io.EOF},
		{"id with U+0000 is ignored", "id: a\x00b\ndata: x\n\n", []Event{data("x")}, io.EOF},
		{"bad retry is ignored", "retry: 1s\nretry: -5\nretry: +5\nretry: 99999999999999999999\ndata: x\n\n", []Event{data("x")}, io.EOF},
		{"unknown field", "datax: x\nDATA: y\ndata: z\n\n", []Event{data("z")}, io.EOF},
		{"comment", ": keep\n\ndata: x\n\n", []Event{{Retry: NoRetry, Comment: true, Data: []byte("keep")}, data("x")}, io.EOF},
		{"comment inside an event", "data: x\n: no\ndata: y\n\n", []Event{data("x\ny")}, io.EOF},
		{"blank lines", "\n\n\ndata: x\n\n\n\n", []Event{data("x")}, io.EOF},
		{"cut in an event", "data: x\n\ndata: y\n", []Event{data("x")}, io.ErrUnexpectedEOF},
		{"cut in a line", "data: x\n\ndata: y", []Event{data("x")}, io.ErrUnexpectedEOF},
		{"nothing", "", nil, io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				got, err := readEvents(r, 0)
				for i := range got {
					if len(got[i].Data) == 0 {
						got[i].Data = nil
					}
				}
				if diff := cmp.Diff(c.want, got); diff != "" || !errors.Is(err, c.end) {
					t.Errorf("end %v, want %v; events (-want +got):\n%s", err, c.end, diff)
				}
			}
		})
	}
}

func TestEventReaderLimit(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"one line":           "data: " + strings.Repeat("x", 100) + "\n\n",
		"line without end":   "data: " + strings.Repeat("x", 1<<20),
		"many lines":         strings.Repeat("data: x\n", 50) + "\n",
		"many ignored lines": "data: x\n" + strings.Repeat("zzzzzzzz\n", 50) + "\n",
		"many comments":      "data: x\n" + strings.Repeat(":\n", 80) + "\n",
	} {
		if got, err := readEvents(strings.NewReader(in), 64); reasonOf(err) != ReasonTooLarge || len(got) != 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	many := strings.Repeat("data: "+strings.Repeat("x", 57)+"\n\n", 10)
	if got, err := readEvents(strings.NewReader(many), 64); len(got) != 10 || !errors.Is(err, io.EOF) {
		t.Errorf("events within the limit: %d, %v", len(got), err)
	}
}

// TestEventReaderDoesNotWait: an event is complete with its blank line, even if that ends in CR.
func TestEventReaderDoesNotWait(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	go func() { _, _ = w.Write([]byte("data: x\r\r")) }()
	done := make(chan Event)
	go func() {
		e, _ := NewEventReader(r, 0).Next()
		done <- e
	}()
	select {
	case e := <-done:
		if string(e.Data) != "x" {
			t.Errorf("got %+v", e)
		}
	case <-time.After(5 * time.Second):
		t.Error("the reader waits for a byte behind the event")
	}
}

func TestAppendEvent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		in   Event
		want string
	}{
		{"data", Event{Data: []byte("x")}, "data: x\n\n"},
		{
			"all",
			Event{Data: []byte("a\nb\r\nc\rd"), ID: "7", HasID: true, Name: "message", Retry: time.Second},
			"id: 7\nevent: message\nretry: 1000\ndata: a\ndata: b\ndata: c\ndata: d\n\n",
		},
		{"prime", Event{ID: "7", HasID: true}, "id: 7\ndata: \n\n"},
		{"no retry", Event{Data: []byte("x"), Retry: NoRetry}, "data: x\n\n"},
		{"comment", Event{Comment: true, Data: []byte("a\nb")}, ": a\n: b\n\n"},
		{"injection by id", Event{ID: "7\ndata: evil", HasID: true, Data: []byte("x")}, "data: x\n\n"},
		{"injection by name", Event{Name: "m\r\rdata: evil", Data: []byte("x")}, "data: x\n\n"},
		{"injection by data", Event{Data: []byte("x\n\nevent: evil\n")}, "data: x\ndata: \ndata: event: evil\ndata: \n\n"},
	} {
		if diff := cmp.Diff(c.want, string(AppendEvent(nil, c.in))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestLineReader(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 9000)
	in := "{\"a\":1}\n\n  \r\n" + long + "\r\n" + long + "yy\n{\"b\":2}"
	r := NewLineReader(iotest.HalfReader(strings.NewReader(in)), 9001)
	var got []string
	for {
		line, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if refusal, ok := errors.AsType[*warder.Error](err); ok {
			got = append(got, string(refusal.Reason))
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(line))
	}
	if diff := cmp.Diff([]string{`{"a":1}`, long, "too_large", `{"b":2}`}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestLineReaderErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	r := NewLineReader(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)), 0)
	if line, err := r.Next(); string(line) != "a" || err != nil {
		t.Errorf("first line: %q, %v", line, err)
	}
	if line, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("a line cut by an error was delivered: %q, %v", line, err)
	}
	endless := NewLineReader(io.MultiReader(bytes.NewReader(bytes.Repeat([]byte("x"), 1<<16)), iotest.ErrReader(broken)), 100)
	if _, err := endless.Next(); reasonOf(err) != ReasonTooLarge {
		t.Errorf("oversized line: %v", err)
	}
	if _, err := endless.Next(); !errors.Is(err, broken) {
		t.Errorf("after the oversized line: %v", err)
	}
}

func TestHeaderValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, encoded string }{
		{"tools/call", "tools/call"},
		{"", ""},
		{"with space", "with space"},
		{"=?base64?", "=?base64?"},
		{"a=?base64?eA==?=", "a=?base64?eA==?="},
		{" us-west1", "=?base64?IHVzLXdlc3Qx?="},
		{"us-west1 ", "=?base64?dXMtd2VzdDEg?="},
		{"日本語", "=?base64?5pel5pys6Kqe?="},
		{"line1\r\nline2", "=?base64?bGluZTENCmxpbmUy?="},
		{"=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="},
		{"=?base64??=", "=?base64?PT9iYXNlNjQ/Pz0=?="},
		{"\tindented", "=?base64?CWluZGVudGVk?="},
		{"\x7f", "=?base64?fw==?="},
	} {
		if got := EncodeHeaderValue(c.in); got != c.encoded {
			t.Errorf("EncodeHeaderValue(%q) = %q, want %q", c.in, got, c.encoded)
		}
		if got, err := DecodeHeaderValue(c.encoded); got != c.in || err != nil {
			t.Errorf("DecodeHeaderValue(%q) = %q, %v; want %q", c.encoded, got, err, c.in)
		}
	}
	for name, in := range map[string]string{
		"not Base64": "=?base64?SGVs!!!bG8=?=", "no padding": "=?base64?SGVsbG8?=", "stray bits": "=?base64?SGVsbG9=?=", "URL alphabet": "=?base64?PT9iYXNlNjQ_bGl0ZXJhbD89?=",
		"line break inside": "=?base64?SGVs\r\nbG8=?=", "not UTF-8": "=?base64?/w==?=", "raw UTF-8": "日本", "control": "a\x00b", "tab": "a\tb",
		"leading space": " a", "trailing space": "a ", "too long": strings.Repeat("a", MaxHeaderValue+1), "DEL": "\x7f",
	} {
		if got, err := DecodeHeaderValue(in); !errors.Is(err, ErrHeaderValue) {
			t.Errorf("%s: DecodeHeaderValue = %q, %v", name, got, err)
		}
	}
	if got, err := DecodeHeaderValue("=?BASE64?eA==?="); got != "=?BASE64?eA==?=" || err != nil {
		t.Errorf("markers are case-sensitive: %q, %v", got, err)
	}
}
