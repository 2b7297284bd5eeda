package wire

import (
	"strings"
	"testing"
)

// call is a tools/call of about 0.6 KB.
func call(pad int) []byte {
	return []byte(`{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"search_documents","arguments":{"query":"quarterly report of the northern region","limit":25,"filters":{"author":"k.meier","after":"2026-01-01","tags":["finance","north"]},"note":"` +
		strings.Repeat("x", pad) + `"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1.0.0"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},"progressToken":5}}}`)
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range []struct {
		name string
		raw  []byte
	}{{"600B", call(80)}, {"16KB", call(16 << 10)}, {"1MB", call(1 << 20)}} {
		b.Run(size.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(size.raw)))
			for b.Loop() {
				if _, err := Decode(size.raw, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSplice(b *testing.B) {
	m := mustDecode(b, string(call(80)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := WithTarget(m, "search", Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRequestToModern(b *testing.B) {
	m := mustDecode(b, `{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"search","arguments":{"query":"x"}}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := RequestToModern(m, modernMeta(), Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRequestDigest(b *testing.B) {
	m := mustDecode(b, string(call(80)))
	b.ReportAllocs()
	for b.Loop() {
		_ = RequestDigest(m)
	}
}

func BenchmarkLeaves(b *testing.B) {
	m := mustDecode(b, string(call(80)))
	b.ReportAllocs()
	for b.Loop() {
		for range Leaves(At(m, m.Params.Get("arguments"))) {
			continue
		}
	}
}

func BenchmarkMethod(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Method("2026-07-28", MethodToolsCall); !ok {
			b.Fatal("unknown")
		}
	}
}
