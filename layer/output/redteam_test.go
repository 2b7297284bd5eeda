package output

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/wire"
)

// A caller who sends a megabyte of different paths to a tool that repeats them in its error must not buy
// seconds of the gateway's time with it.
func TestAttackEchoedPaths(t *testing.T) {
	t.Parallel()
	h := newHygiene(t)
	var blocks, args strings.Builder
	for i := range 128 {
		var text strings.Builder
		for j := 0; text.Len() < 7<<10; j++ {
			fmt.Fprintf(&text, "/usr/%d/%x ", i, 1<<30-j)
		}
		if i > 0 {
			blocks.WriteByte(',')
			args.WriteByte(',')
		}
		fmt.Fprintf(&blocks, `{"type":"text","text":%s}`, wire.Quote(text.String()))
		fmt.Fprintf(&args, `"a%d":%s`, i, wire.Quote(text.String()))
	}
	x := answered(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{`+args.String()+`}}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[`+blocks.String()+`]}}`)
	start := time.Now()
	judge(t, h, x)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	} else {
		t.Logf("it took %s", took)
	}
}
