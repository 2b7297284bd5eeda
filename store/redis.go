package store

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/internal/tlsconf"
)

// RedisConfig says how to reach a Redis or Valkey server.
type RedisConfig struct {
	Address           string // host:port
	Username          string // empty: the default user
	Password          secret.Value
	TLS               *tlsconf.Client // nil: no TLS
	InsecurePlaintext bool            // accept another machine without TLS
}

const (
	redisPrefix  = "warder:replay:"
	redisMark    = "warder:replays" // which server remembers since when
	redisTimeout = 2 * time.Second
	// clockSkew is how far the clocks of the gateways may be apart.
	clockSkew = 2 * time.Second
)

// addScript remembers an id and tells which memory remembers it: the run of the server and since when.
// A run that is not the one of the mark is a server that was started, or that took over, after the mark
// was written: it may lack what was added before. Everything happens at one moment of the server, so an
// id is never added to a memory that is then taken for another.
const addScript = `
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local mark = redis.call('HMGET', KEYS[2], 'run', 'born')
local born = mark[2]
if mark[1] ~= run or not born then
	local t = redis.call('TIME')
	born = string.format('%.0f', math.max(t[1] * 1000 + math.ceil(t[2] / 1000), tonumber(ARGV[2])))
	redis.call('HSET', KEYS[2], 'run', run, 'born', born)
end
local fresh = redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1])
return {fresh and 1 or 0, run, born}
`

// redisReplays remembers in a Redis server, for several gateways. The memory of the server is not
// trusted to survive: see replays.go.
type redisReplays struct {
	db     *DB
	client rueidis.Client
	script *rueidis.Lua
	table  *tableReplays // ids with a long time left
	window window

	mu     sync.Mutex
	memory atomic.Pointer[redisMemory]
}

// A redisMemory is what one run of the server remembers.
type redisMemory struct {
	run, born string
	refuse    refusal // ids that may have been used before it was born
}

var _ state.Replays = (*redisReplays)(nil)

// UseRedis makes [DB.Replays] remember in a Redis server from now on. It is called before the first use
// of Replays. Connections that are lost are made again on their own.
func (db *DB) UseRedis(ctx context.Context, cfg RedisConfig) error {
	options, err := redisOptions(cfg)
	if err != nil {
		return fmt.Errorf("open redis: %w", err)
	}
	client, err := rueidis.NewClient(options)
	if err != nil {
		return fmt.Errorf("open redis %s: %w", cfg.Address, err)
	}
	if err := keepsAll(ctx, client); err != nil {
		client.Close()
		return fmt.Errorf("open redis %s: %w", cfg.Address, err)
	}
	table, ok := db.replays.(*tableReplays)
	if !ok {
		table = &tableReplays{db: db}
	}
	r := &redisReplays{
		db: db, client: client, table: table, window: window{db: db},
		script: rueidis.NewLuaScript(addScript),
	}
	// A server that is used for the first time is marked now, and not by the first client.
	if _, err := r.Add(ctx, rand.Text(), db.now().Add(time.Second)); err != nil {
		client.Close()
		return fmt.Errorf("open redis %s: %w", cfg.Address, err)
	}
	db.replays = r
	return nil
}

func redisOptions(cfg RedisConfig) (rueidis.ClientOption, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return rueidis.ClientOption{}, fmt.Errorf("address %q: want host:port", cfg.Address)
	}
	var config *tls.Config
	if cfg.TLS != nil {
		if config, err = tlsconf.ClientConfig(*cfg.TLS); err != nil {
			return rueidis.ClientOption{}, err
		}
		config.NextProtos = nil
		if config.ServerName == "" {
			config.ServerName = host
		}
	} else if !cfg.InsecurePlaintext {
		if err := protected(host, nil); err != nil {
			return rueidis.ClientOption{}, fmt.Errorf("host %s: %w: configure tls", host, ErrUnprotected)
		}
	}
	return rueidis.ClientOption{
		InitAddress: []string{cfg.Address}, Username: cfg.Username, Password: string(cfg.Password.Bytes()), TLSConfig: config,
		Dialer: net.Dialer{Timeout: redisTimeout, KeepAlive: time.Second}, ConnWriteTimeout: redisTimeout,
		ForceSingleClient: true, DisableCache: true, ClientName: "warder",
	}, nil
}

// keepsAll reports an error if the server would forget ids that have not ended when its memory is full.
func keepsAll(ctx context.Context, client rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	info, err := client.Do(ctx, client.B().Info().Section("memory").Build()).ToString()
	if err != nil {
		return err
	}
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		fields[name] = value
	}
	if policy := fields["maxmemory_policy"]; policy != "noeviction" && fields["maxmemory"] != "0" {
		return fmt.Errorf("%w: set maxmemory-policy to noeviction, it is %.20q", ErrEvicts, policy)
	}
	return nil
}

// Add implements state.Replays.
func (r *redisReplays) Add(ctx context.Context, id string, until time.Time) (bool, error) {
	now := r.db.now()
	left := until.Sub(now)
	if left <= 0 {
		return false, nil
	}
	d, long := digestOf(id), left > memoryOnly(id)
	if long {
		r.table.sweep(ctx, now)
		if fresh, err := r.table.add(ctx, d, until, now); err != nil || !fresh {
			return false, err
		}
	} else if err := r.window.cover(ctx, left); err != nil {
		return false, err
	}
	known := r.memory.Load()
	fresh, run, born, err := r.ask(ctx, d, left, now)
	if err != nil {
		return false, fmt.Errorf("remember id: %w", err)
	}
	if known == nil || known.run != run || known.born != born {
		// The server did not have the ids of the table yet when it was asked.
		if known, err = r.meet(ctx, run, born); err == nil && fresh && !long {
			fresh, err = r.table.lacks(ctx, d, now)
		}
		if err != nil {
			return false, fmt.Errorf("remember id: %w", err)
		}
	}
	return fresh && !known.refuse.holds(id, until), nil
}

// ask adds an id to the server's memory, and returns which memory that is.
func (r *redisReplays) ask(ctx context.Context, d digest, left time.Duration, now time.Time) (fresh bool, run, born string, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	reply, err := r.script.Exec(ctx, r.client, []string{redisKey(d), redisMark},
		[]string{millis(left + clockSkew), strconv.FormatInt(now.UnixMilli(), 10)}).ToArray()
	if err != nil {
		return false, "", "", err
	}
	if len(reply) != 3 {
		return false, "", "", fmt.Errorf("answer of %d values", len(reply))
	}
	n, err1 := reply[0].AsInt64()
	run, err2 := reply[1].ToString()
	born, err3 := reply[2].ToString()
	return n == 1, run, born, errors.Join(err1, err2, err3)
}

// meet takes a memory into use that this gateway has not used yet: it learns which ids may have been
// lost before, and brings back those that the database has.
func (r *redisReplays) meet(ctx context.Context, run, born string) (*redisMemory, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memory.Load(); m != nil && m.run == run && m.born == born {
		return m, nil
	}
	ms, err := strconv.ParseInt(born, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("mark: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	widest, err := r.window.read(ctx)
	if err != nil {
		return nil, err
	}
	now := r.db.now()
	var commands rueidis.Commands
	if err := r.table.each(ctx, now, func(d digest, until time.Time) {
		commands = append(commands, r.client.B().Arbitrary("SET").Keys(redisKey(d)).
			Args("1", "NX", "PX", millis(until.Sub(now)+clockSkew)).Build())
	}); err != nil {
		return nil, err
	}
	for _, result := range r.client.DoMulti(ctx, commands...) {
		if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) { // nil: it is there
			return nil, err
		}
	}
	m := &redisMemory{run: run, born: born, refuse: refusal{time.UnixMilli(ms).Add(clockSkew), widest}}
	r.memory.Store(m)
	return m, nil
}

func redisKey(d digest) string { return redisPrefix + base64.RawURLEncoding.EncodeToString(d[:]) }

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds()+1, 10) }

func (r *redisReplays) close(context.Context) error {
	r.client.Close()
	return nil
}
