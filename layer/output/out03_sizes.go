package output

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/bounded"
	"github.com/warder-mcp/warder/wire"
)

// sizes refuses messages and answers that are too large, and callers that have received too much in
// a window, however small the pieces. Half-way there, and when a tool's result is far larger than
// usual, it reports.
// Control OUT-03. Phase Response.
type sizes struct {
	message, answer int64
	window          time.Duration
	alert, limit    int64
	factor          float64
	now             func() time.Time
	seed            maphash.Seed
	callers         [stripes]*bounded.Cache[string, *volume]
	tools           [stripes]*bounded.Cache[warder.Digest, *baseline]
}

const (
	stripes  = 16   // locks that callers are spread over
	perShard = 4096 // callers and tools remembered at least, per stripe
)

var _ warder.Interceptor = (*sizes)(nil)

func newSizes(cfg Config, now func() time.Time) *sizes {
	s := &sizes{
		message: int64(cfg.MaxMessage), answer: int64(cfg.MaxAnswer),
		window: cfg.Volume.Window, alert: int64(cfg.Volume.Alert), limit: int64(cfg.Volume.Limit),
		factor: cfg.BaselineFactor, now: now, seed: maphash.MakeSeed(),
	}
	for i := range stripes {
		s.callers[i] = bounded.New[string, *volume](perShard)
		s.tools[i] = bounded.New[warder.Digest, *baseline](perShard)
	}
	return s
}

// Control names the control.
func (*sizes) Control() warder.ControlID { return "OUT-03" }

// Intercept judges one message of the answer.
func (s *sizes) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	if m == nil || s.message <= 0 {
		return warder.Decision{}, errors.New("judge size: no message or no limits")
	}
	size := int64(len(m.Raw))
	if size > s.message {
		return tooLarge("message_too_large", "the answer holds a message of more than %d bytes", s.message), nil
	}
	if !endless(x) && x.BytesOut+size > s.answer {
		return tooLarge("answer_too_large", "the answer is larger than %d bytes", s.answer), nil
	}
	d := s.volume(x, size)
	if d.Verdict != warder.Pass {
		return d, nil
	}
	if f, unusual := s.compare(x, m, size); unusual {
		d.Findings = append(d.Findings, f)
	}
	return d, nil
}

// endless reports whether an answer is a stream that is not meant to end.
func endless(x *warder.Exchange) bool {
	return x.From == warder.FromServer || x.Request == nil || x.Request.Method == wire.MethodListen
}

func tooLarge(reason warder.Reason, format string, limit int64) warder.Decision {
	text := fmt.Sprintf(format, limit)
	d := warder.Refuse(warder.CodeTooLarge, reason, text)
	d.Findings = []warder.Finding{{Rule: string(reason), Severity: warder.High, Evidence: text}}
	return d.Tell("Refused: " + text + ".")
}

// volume counts what the caller receives.
func (s *sizes) volume(x *warder.Exchange, size int64) warder.Decision {
	key := x.Principal.Key()
	shard := s.callers[maphash.String(s.seed, key)%stripes]
	v, ok := shard.Get(key)
	if !ok {
		v = shard.Add(key, &volume{})
	}
	now := s.now()
	sum, crossed := v.add(now, s.window, size, s.alert)
	switch {
	case sum > s.limit:
		text := fmt.Sprintf("more than %d bytes within %s", s.limit, s.window)
		d := warder.Refuse(warder.CodeRateLimited, "volume_exceeded", text)
		d.Ask = &warder.Ask{RetryAfter: s.window / 2}
		d.Findings = []warder.Finding{{Rule: "volume_exceeded", Severity: warder.High, Evidence: text}}
		return d.Tell("Refused: this caller has received " + text + ".")
	case crossed:
		return warder.Observe(warder.Finding{
			Rule: "volume_high", Severity: warder.High,
			Evidence: fmt.Sprintf("more than %d bytes within %s", s.alert, s.window),
		})
	default:
		return warder.Continue()
	}
}

// A volume sums bytes over a sliding window: the current half-open slot of one window length, and
// the one before, of which the part that still lies in the window counts.
type volume struct {
	mu            sync.Mutex
	slot          int64 // number of the current slot
	current, past int64
}

// add counts size and returns the sum of the window, and whether it has just crossed alert. Bytes
// are counted also when they are then refused: a server that goes on sending stays refused.
func (v *volume) add(now time.Time, window time.Duration, size, alert int64) (sum int64, crossed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	slot := now.UnixNano() / int64(window)
	switch {
	case slot == v.slot+1:
		v.past, v.current = v.current, 0
		v.slot = slot
	case slot > v.slot:
		v.past, v.current = 0, 0
		v.slot = slot
	}
	left := 1 - float64(now.UnixNano()%int64(window))/float64(window)
	before := v.current + int64(float64(v.past)*left)
	v.current += size
	return before + size, before <= alert && before+size > alert
}

// compare reports a result that is far larger than the tool's usual one.
func (s *sizes) compare(x *warder.Exchange, m *warder.Message, size int64) (warder.Finding, bool) {
	if x.Tool == nil || m.Kind != warder.KindResult {
		return warder.Finding{}, false
	}
	shard := s.tools[x.Tool.Digest[0]%stripes]
	b, ok := shard.Get(x.Tool.Digest)
	if !ok {
		b = shard.Add(x.Tool.Digest, &baseline{})
	}
	usual, unusual := b.add(float64(size), s.factor)
	if !unusual {
		return warder.Finding{}, false
	}
	return warder.Finding{
		Rule: "result_unusually_large", Severity: warder.Medium, Confidence: 0.6,
		Evidence: fmt.Sprintf("%d bytes, usually about %.0f", size, usual),
	}, true
}

// A baseline is the running mean of a tool's result sizes.
type baseline struct {
	mu   sync.Mutex
	n    int
	mean float64
}

const (
	learned    = 20       // results before the mean is trusted
	smallest   = 16 << 10 // results below are never unusual
	smoothness = 0.05     // weight of a new result once the mean is trusted
)

// add learns a size and reports whether it is larger than factor times the mean. What is reported
// is not learned at full weight, so that an outlier does not become usual at once.
func (b *baseline) add(size, factor float64) (usual float64, unusual bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	usual = b.mean
	unusual = b.n >= learned && size > smallest && size > factor*usual
	if unusual {
		size = factor * usual
	}
	b.n++
	b.mean += (size - b.mean) * max(smoothness, 1/float64(b.n))
	return usual, unusual
}
