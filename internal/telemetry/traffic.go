package telemetry

import (
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/warder-mcp/warder"
)

// traffic counts exchanges by door, revision, server and outcome. All labels come from closed lists,
// whatever clients send; the last value of each list is "other". It is a prometheus.Collector.
type traffic struct {
	doors, revisions, servers, outcomes []string
	server                              map[string]int

	started  atomic.Int64
	ended    atomic.Int64
	counts   []atomic.Uint64 // door × revision × server × outcome
	latency  []histogram     // server × outcome
	in, out  atomic.Uint64
	messages atomic.Uint64

	exchanges, duration, running, bytes, sent *prometheus.Desc
}

// A histogram counts durations.
type histogram struct {
	buckets [buckets]atomic.Uint64
	nanos   atomic.Uint64
}

const other = "other"

func newTraffic(servers []string) *traffic {
	t := &traffic{
		doors:     []string{string(warder.DoorHTTP), string(warder.DoorSSE), string(warder.DoorStdio), other},
		outcomes:  []string{string(warder.OutcomeAllowed), string(warder.OutcomeRefused), string(warder.OutcomeFailed), string(warder.OutcomeCanceled), other},
		servers:   append(slices.Clone(servers), "none", other),
		server:    map[string]int{},
		exchanges: prometheus.NewDesc("warder_exchanges_total", "Finished exchanges.", []string{"door", "revision", "server", "outcome"}, nil),
		duration:  prometheus.NewDesc("warder_exchange_duration_seconds", "Time from the first byte of an exchange to its end.", []string{"server", "outcome"}, nil),
		running:   prometheus.NewDesc("warder_exchanges_running", "Exchanges that have begun and not ended.", nil, nil),
		bytes:     prometheus.NewDesc("warder_message_bytes_total", "Bytes of messages from and to clients.", []string{"direction"}, nil),
		sent:      prometheus.NewDesc("warder_messages_sent_total", "Messages sent to clients.", nil, nil),
	}
	for _, r := range warder.Revisions() {
		t.revisions = append(t.revisions, string(r))
	}
	t.revisions = append(t.revisions, other)
	for i, s := range t.servers {
		t.server[s] = i
	}
	t.counts = make([]atomic.Uint64, len(t.doors)*len(t.revisions)*len(t.servers)*len(t.outcomes))
	t.latency = make([]histogram, len(t.servers)*len(t.outcomes))
	return t
}

// index finds v in a short list whose last value stands for all others.
func index(list []string, v string) int {
	if i := slices.Index(list, v); i >= 0 {
		return i
	}
	return len(list) - 1
}

func (t *traffic) add(x *warder.Exchange) {
	t.ended.Add(1)
	server := len(t.servers) - 2
	if x.Server != nil {
		var ok bool
		if server, ok = t.server[x.Server.Name]; !ok {
			server = len(t.servers) - 1
		}
	}
	door, revision := index(t.doors, string(x.Door)), index(t.revisions, string(x.Revision))
	outcome := index(t.outcomes, string(x.Outcome))
	t.counts[((door*len(t.revisions)+revision)*len(t.servers)+server)*len(t.outcomes)+outcome].Add(1)
	took := x.Finished.Sub(x.Received)
	h := &t.latency[server*len(t.outcomes)+outcome]
	h.buckets[bucketOf(took)].Add(1)
	h.nanos.Add(uint64(max(took, 0)))
	t.in.Add(uint64(max(x.BytesIn, 0)))
	t.out.Add(uint64(max(x.BytesOut, 0)))
	t.messages.Add(uint64(max(x.Messages, 0)))
}

// Describe sends the descriptions.
func (t *traffic) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{t.exchanges, t.duration, t.running, t.bytes, t.sent} {
		ch <- d
	}
}

// Collect sends the counters as they are now; combinations that never occurred are left out.
func (t *traffic) Collect(ch chan<- prometheus.Metric) {
	for i := range t.counts {
		if n := t.counts[i].Load(); n > 0 {
			outcome := i % len(t.outcomes)
			server := i / len(t.outcomes) % len(t.servers)
			revision := i / len(t.outcomes) / len(t.servers) % len(t.revisions)
			door := i / len(t.outcomes) / len(t.servers) / len(t.revisions)
			ch <- prometheus.MustNewConstMetric(t.exchanges, prometheus.CounterValue, float64(n),
				t.doors[door], t.revisions[revision], t.servers[server], t.outcomes[outcome])
		}
	}
	for i := range t.latency {
		var counts [buckets]uint64
		for b := range counts {
			counts[b] = t.latency[i].buckets[b].Load()
		}
		if cumulative, total := bounds(&counts); total > 0 {
			ch <- prometheus.MustNewConstHistogram(t.duration, total, float64(t.latency[i].nanos.Load())/1e9, cumulative,
				t.servers[i/len(t.outcomes)], t.outcomes[i%len(t.outcomes)])
		}
	}
	if s := t.started.Load(); s > 0 {
		ch <- prometheus.MustNewConstMetric(t.running, prometheus.GaugeValue, float64(max(s-t.ended.Load(), 0)))
	}
	ch <- prometheus.MustNewConstMetric(t.bytes, prometheus.CounterValue, float64(t.in.Load()), "in")
	ch <- prometheus.MustNewConstMetric(t.bytes, prometheus.CounterValue, float64(t.out.Load()), "out")
	ch <- prometheus.MustNewConstMetric(t.sent, prometheus.CounterValue, float64(t.messages.Load()))
}
