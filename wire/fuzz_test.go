package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/warder-mcp/warder"
)

// FuzzDecode: whatever is accepted has spans that hold together, and can be walked, edited and put
// into canonical form.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Decode(raw, Limits{Bytes: 1 << 16})
		if err != nil {
			var refusal *warder.Error
			if !errors.As(err, &refusal) || refusal.Reason == "" || m != nil {
				t.Fatalf("Decode = %v, %v", m, err)
			}
			return
		}
		if !json.Valid(m.Raw) {
			t.Fatalf("accepted what is not JSON: %q", m.Raw)
		}
		again, err := Splice(m, Limits{})
		if err != nil || cmp.Diff(m, again) != "" {
			t.Fatalf("not the same when read again: %v\n%s", err, cmp.Diff(m, again))
		}
		for _, object := range []warder.Object{m.Envelope, m.Params, m.Meta, m.Result, m.Failure} {
			for _, member := range object {
				if text, ok := Parse(m.At(member.Name)).Text(); !ok || text != member.Key || !json.Valid(m.At(member.Value)) {
					t.Fatalf("member %q: name %s, value %s", member.Key, m.At(member.Name), m.At(member.Value))
				}
			}
		}
		for pointer, leaf := range Leaves(Root(m)) {
			if text, ok := leaf.Text(); !ok || !strings.HasPrefix(pointer, "/") {
				t.Fatalf("leaf %q: %q", pointer, text)
			}
		}
		tree, err := Tree(m.Raw)
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader(m.Raw))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil || cmp.Diff(want, tree) != "" {
			t.Fatalf("tree, %v (-want +got):\n%s", err, cmp.Diff(want, tree))
		}
		if m.Params != nil {
			fuzzTranslate(t, m)
		}
	})
}

// fuzzTranslate: a request survives the way through the eras.
func fuzzTranslate(t *testing.T, m *warder.Message) {
	t.Helper()
	modern, err := RequestToModern(m, ModernMeta{Version: "2026-07-28"}, Limits{})
	if err != nil {
		if r := reasonOf(err); r == ReasonTooDeep || r == ReasonBadMember {
			return
		}
		t.Fatalf("to modern: %v\n%s", err, m.Raw)
	}
	legacy, err := RequestToLegacy(modern, Limits{})
	if err != nil {
		t.Fatalf("to legacy: %v\n%s", err, modern.Raw)
	}
	if m.Kind == warder.KindRequest && !m.Params.Get("task").Present() && RequestDigest(legacy) != RequestDigest(m) {
		t.Fatalf("the request changed:\n%s\n%s", m.Raw, legacy.Raw)
	}
}

// FuzzDecodeAgainstOthers: whatever Decode accepts, encoding/json and the Go SDK read the same from.
func FuzzDecodeAgainstOthers(f *testing.F) {
	type params struct {
		Name      string
		URI       string
		TaskID    string
		Arguments json.RawMessage
	}
	type message struct {
		Method string
		ID     json.RawMessage
		Params json.RawMessage
		Result json.RawMessage
		Error  json.RawMessage
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Decode(raw, Limits{Bytes: 1 << 16})
		if err != nil {
			return
		}
		var std message
		if err := json.Unmarshal(raw, &std); err != nil {
			t.Fatalf("encoding/json refuses: %v", err)
		}
		id := m.IDBytes()
		if id == nil && m.Kind == warder.KindError {
			id = m.At(m.Envelope.Get("id")) // null
		}
		want := message{m.Method, id, m.At(m.ParamsSpan), m.At(m.ResultSpan), m.At(m.ErrorSpan)}
		if diff := cmp.Diff(want, std); diff != "" {
			t.Fatalf("encoding/json (-want +got):\n%s", diff)
		}
		sdk, err := jsonrpc.DecodeMessage(raw)
		if err != nil {
			if m.Kind == warder.KindError && m.IDBytes() == nil {
				return // the SDK wants an id
			}
			t.Fatalf("SDK refuses: %v", err)
		}
		got := message{}
		switch sdk := sdk.(type) {
		case *jsonrpc.Request:
			got = message{Method: sdk.Method, ID: sdkID(t, sdk.ID), Params: sdk.Params}
		case *jsonrpc.Response:
			got = message{ID: sdkID(t, sdk.ID), Result: sdk.Result, Error: want.Error}
			if (sdk.Error != nil) != (m.Kind == warder.KindError) {
				t.Fatalf("SDK reads error %v", sdk.Error)
			}
		}
		want.ID = []byte(strings.TrimPrefix(IDKey(m.IDBytes()), `"`))
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })); diff != "" {
			t.Fatalf("SDK (-want +got):\n%s", diff)
		}
		if m.Params == nil {
			return
		}
		var p params
		typed := json.Unmarshal(std.Params, &p) == nil
		text := func(key string) string { s, _ := At(m, m.Params.Get(key)).Text(); return s }
		mine := params{text("name"), text("uri"), text("taskId"), m.At(m.Params.Get("arguments"))}
		if diff := cmp.Diff(mine, p); typed && diff != "" {
			t.Fatalf("params (-want +got):\n%s", diff)
		}
	})
}

// sdkID renders an id of the SDK as IDKey does, without the quote.
func sdkID(t *testing.T, id jsonrpc.ID) []byte {
	t.Helper()
	switch v := id.Raw().(type) {
	case string:
		return []byte(v)
	case nil:
		return nil
	default:
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// FuzzSSE: no stream breaks the reader, reading does not depend on how the stream is cut, and what
// was read can be written and read again.
func FuzzSSE(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 1 << 12
		got, end := readEvents(bytes.NewReader(stream), limit)
		cut, cutEnd := readEvents(iotest.OneByteReader(bytes.NewReader(stream)), limit)
		if diff := cmp.Diff(got, cut); diff != "" || reasonOf(end) != reasonOf(cutEnd) {
			t.Fatalf("%v, %v (-whole +cut):\n%s", end, cutEnd, diff)
		}
		var out []byte
		for _, e := range got {
			if int64(len(e.Data)) > limit {
				t.Fatalf("event of %d bytes", len(e.Data))
			}
			out = AppendEvent(out, e)
		}
		again, err := readEvents(bytes.NewReader(out), 1<<20)
		if !errors.Is(err, io.EOF) {
			t.Fatalf("read again: %v", err)
		}
		for i := range got {
			if got[i].Retry == 0 {
				got[i].Retry = NoRetry // zero is not written
			}
			got[i].Data, again[i].Data = append([]byte{}, got[i].Data...), append([]byte{}, again[i].Data...)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	})
}

// FuzzHeaderValue: every accepted value has one meaning, and every meaning survives.
func FuzzHeaderValue(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		text, err := DecodeHeaderValue(s)
		if err != nil {
			return
		}
		if again, err := DecodeHeaderValue(EncodeHeaderValue(text)); len(EncodeHeaderValue(text)) <= MaxHeaderValue && (err != nil || again != text) {
			t.Fatalf("%q became %q, %v", text, again, err)
		}
		if EncodeHeaderValue(text) != s && !strings.HasPrefix(s, "=?base64?") {
			t.Fatalf("%q is plain but written as %q", s, EncodeHeaderValue(text))
		}
	})
}

// FuzzCanonical: the canonical form is a fixed point and means what the input means.
func FuzzCanonical(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		once, err := Canonical(raw)
		if err != nil {
			return
		}
		twice, err := Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q, %q, %v", once, twice, err)
		}
		var a, b any
		if err := errors.Join(json.Unmarshal(raw, &a), json.Unmarshal(once, &b)); err != nil {
			if strings.Contains(err.Error(), "exceeded max depth") {
				return
			}
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("the meaning changed (-want +got):\n%s", diff)
		}
	})
}
