package telemetry

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/warder-mcp/warder"
)

const (
	shards  = 8  // power of two; exchanges spread over them by the last characters of their id
	buckets = 24 // of a latency histogram: below 256 ns, 512 ns, … 2 s
	finest  = 8  // log2 of the first bound in nanoseconds
)

// Results of a decision, as label values.
const (
	resultPass = iota
	resultDeny
	resultChallenge
	resultHold
	resultObserved    // monitor mode: would have been refused
	resultUnavailable // the control could not decide, which denies
	results
)

func resultName(i int) string {
	return [...]string{"pass", "deny", "challenge", "hold", "observed", "unavailable"}[i]
}

// A place is a control in a phase.
type place struct {
	phase   warder.Phase
	control warder.ControlID
}

// A row is a place with its layer, for labels.
type row struct {
	layer, control, phase string
}

// places numbers the places of a path. It is an open hash table over the few characters in which ids
// differ, because a general map costs more than the counting itself. Number 0 is for whatever is not
// in it.
type places struct {
	slots [slots]slot
}

const slots = 1 << 10 // power of two, far more than there are places

type slot struct {
	place
	number uint16
}

func slotOf(p place) int {
	n := len(p.control)
	if n < 2 {
		return 0
	}
	return (int(p.control[n-1])*29 + int(p.control[0])*7 + int(p.control[1])*13 + n*3 + int(p.phase)*251) & (slots - 1)
}

func (t *places) number(p place) uint16 {
	for i := slotOf(p); t.slots[i].number != 0; i = (i + 1) & (slots - 1) {
		if t.slots[i].place == p {
			return t.slots[i].number
		}
	}
	return 0
}

// layout numbers the places of a path.
func layout(layers []warder.Layer) (*places, []row) {
	t, rows := &places{}, []row{{other, other, other}}
	add := func(layer string, phase warder.Phase, list []warder.Interceptor) {
		for _, ic := range list {
			p := place{phase, ic.Control()}
			if t.number(p) != 0 || len(rows) == slots/2 {
				continue
			}
			i := slotOf(p)
			for t.slots[i].number != 0 {
				i = (i + 1) & (slots - 1)
			}
			t.slots[i] = slot{p, uint16(len(rows))}
			rows = append(rows, row{layer, string(p.control), phase.String()})
		}
	}
	for _, l := range layers {
		add(l.Name, warder.PhaseConnect, l.Connect)
		add(l.Name, warder.PhaseRequest, l.Request)
		add(l.Name, warder.PhaseResponse, l.Response)
	}
	return t, rows
}

// A cell holds the counters of one place in one shard, four cache lines.
type cell struct {
	buckets [buckets]atomic.Uint64
	nanos   atomic.Uint64
	other   [results - 1]atomic.Uint64 // all results but pass
	_       [2]uint64
}

// A table counts decisions. It is a prometheus.Collector.
type table struct {
	rows  []row
	cells [shards][]cell

	decisions, latency *prometheus.Desc
}

func newTable(rows []row) *table {
	labels := []string{"layer", "control", "phase"}
	t := &table{
		rows: rows,
		decisions: prometheus.NewDesc("warder_control_decisions_total",
			"Decisions by control, phase and result.", append(labels, "result"), nil),
		latency: prometheus.NewDesc("warder_control_duration_seconds",
			"Time a control took to decide.", labels, nil),
	}
	for s := range t.cells {
		t.cells[s] = make([]cell, len(rows))
	}
	return t
}

// shardOf spreads exchanges over the shards. Ids end in random characters.
func shardOf(id string) int {
	if len(id) < 1 {
		return 0
	}
	return int(id[len(id)-1]) & (shards - 1)
}

func (t *table) add(at uint16, shard int, d *warder.Decision, took time.Duration) {
	c := &t.cells[shard][at]
	c.buckets[bucketOf(took)].Add(1)
	c.nanos.Add(uint64(max(took, 0)))
	if d.Verdict != warder.Pass {
		c.other[resultOf(d)-1].Add(1)
	}
}

func resultOf(d *warder.Decision) int {
	switch {
	case d.Observed:
		return resultObserved
	case d.Verdict == warder.Challenge:
		return resultChallenge
	case d.Verdict == warder.Hold:
		return resultHold
	case d.Code == warder.CodeUnavailable:
		return resultUnavailable
	default:
		return resultDeny
	}
}

// bucketOf finds the bucket of a duration: bucket i holds those below 2^(finest+i) ns.
func bucketOf(d time.Duration) int {
	return min(bits.Len64(uint64(max(d, 0))>>finest), buckets-1)
}

// bounds turns buckets into the cumulative form of Prometheus; the last bucket is its +Inf.
func bounds(counts *[buckets]uint64) (cumulative map[float64]uint64, total uint64) {
	cumulative = make(map[float64]uint64, buckets-1)
	for i, n := range counts {
		total += n
		if i < buckets-1 {
			cumulative[float64(uint64(1)<<(finest+i))/1e9] = total
		}
	}
	return cumulative, total
}

// Describe sends the descriptions.
func (t *table) Describe(ch chan<- *prometheus.Desc) { ch <- t.decisions; ch <- t.latency }

// Collect sends the counters as they are now.
func (t *table) Collect(ch chan<- prometheus.Metric) {
	for i, r := range t.rows {
		var counts [buckets]uint64
		var nanos uint64
		var by [results]uint64
		for s := range t.cells {
			c := &t.cells[s][i]
			for b := range counts {
				counts[b] += c.buckets[b].Load()
			}
			nanos += c.nanos.Load()
			for k := range c.other {
				by[k+1] += c.other[k].Load()
			}
		}
		cumulative, total := bounds(&counts)
		if total == 0 && i == 0 {
			continue
		}
		by[resultPass] = total
		for _, n := range by[1:] {
			by[resultPass] -= min(n, by[resultPass])
		}
		ch <- prometheus.MustNewConstHistogram(t.latency, total, float64(nanos)/1e9, cumulative, r.layer, r.control, r.phase)
		for k, n := range by {
			if n > 0 || k == resultPass || k == resultDeny {
				ch <- prometheus.MustNewConstMetric(t.decisions, prometheus.CounterValue, float64(n), r.layer, r.control, r.phase, resultName(k))
			}
		}
	}
}
