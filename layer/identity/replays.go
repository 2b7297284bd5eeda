package identity

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Bounds of the replay memory of one process.
const (
	replayShards = 64
	replayLimit  = 16 << 10 // ids per shard and generation: two million proofs in about ten minutes
)

// errReplaysFull reports that more proofs came than can be remembered. Nobody knows then whether one is new.
var errReplaysFull = errors.New("too many proofs to remember")

// memoryReplays remembers ids in this process, in two generations: an id is remembered for at least keep and
// at most twice as long. It is safe for concurrent use.
type memoryReplays struct {
	keep   time.Duration
	now    func() time.Time
	shards [replayShards]replayShard
}

type replayShard struct {
	mu         sync.Mutex
	young, old map[string]struct{}
	turn       time.Time // when young was begun
	_          [16]byte  // keeps neighbouring locks off one cache line
}

var _ Replays = (*memoryReplays)(nil)

// newMemoryReplays remembers ids whose end is at most keep away.
func newMemoryReplays(keep time.Duration, now func() time.Time) *memoryReplays {
	return &memoryReplays{keep: keep, now: now}
}

// Add implements Replays.
func (m *memoryReplays) Add(_ context.Context, id string, until time.Time) (bool, error) {
	now := m.now()
	if id == "" || until.Sub(now) > m.keep {
		return false, errors.New("replay id is empty or must be remembered for too long")
	}
	s := &m.shards[id[len(id)-1]%replayShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil || now.Sub(s.turn) >= m.keep {
		if s.old = s.young; now.Sub(s.turn) >= 2*m.keep {
			s.old = nil
		}
		s.young, s.turn = map[string]struct{}{}, now
	}
	if _, seen := s.young[id]; seen {
		return false, nil
	}
	if _, seen := s.old[id]; seen {
		return false, nil
	}
	if len(s.young) >= replayLimit {
		return false, errReplaysFull
	}
	s.young[id] = struct{}{}
	return true, nil
}
