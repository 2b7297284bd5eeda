package servicetest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// RedisServer returns the address of a Redis server without a password that keeps nothing on disk and
// ends with the test. Options are those of the configuration file, such as "--requirepass", "secret";
// a later one wins.
func RedisServer(tb testing.TB, options ...string) (string, *Server) {
	tb.Helper()
	address, server, err := newRedis(options...)
	needed(tb, "Redis", err)
	own(tb, server)
	return address, server
}

func newRedis(options ...string) (string, *Server, error) {
	program, err := find("redis-server")
	if err != nil {
		if program, err = find("valkey-server"); err != nil {
			return "", nil, fmt.Errorf("redis-server: %w", ErrMissing)
		}
	}
	dir, credential, err := folder("redis")
	if err != nil {
		return "", nil, err
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s := &Server{
		dir: dir, user: credential, quick: syscall.SIGKILL,
		argv: append([]string{
			program, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
			"--save", "", "--appendonly", "no", "--daemonize", "no",
		}, options...),
		answers: func(ctx context.Context) error { return ping(ctx, address) },
	}
	return address, s, s.Start()
}

// ping asks the server whether it is there. One that wants a password first is, too; one that still
// reads its file is not.
func ping(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "+PONG") && !strings.HasPrefix(line, "-NOAUTH") {
		return fmt.Errorf("it answered %q", line)
	}
	return nil
}

// freePort finds a port of the loopback address that is free now, below those that the kernel gives
// away, so that no other test gets it in between.
func freePort() (int, error) {
	const first, count, tries = 28_000, 2_000, 50
	var failure error
	for range tries {
		port := first + rand.IntN(count)
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		failure = err
	}
	return 0, failure
}
