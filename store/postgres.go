package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/warder-mcp/warder/internal/secret"
)

// PostgresConfig says how to reach a PostgreSQL database.
type PostgresConfig struct {
	DSN               secret.Value // connection URI or key=value string, as libpq reads it
	Connections       int          // at once; 0 means 8
	InsecurePlaintext bool         // accept an unprotected connection to another machine
}

const (
	defaultConnections = 8
	connectTimeout     = 5 * time.Second
	relisten           = 500 * time.Millisecond // pause before the listener connects again
	listenCheck        = 30 * time.Second       // a silent listener asks whether the server is still there
)

// OpenPostgres opens a PostgreSQL database and brings its tables up to date. Connections that are lost
// are made again when they are needed. Errors never tell the connection string.
func OpenPostgres(ctx context.Context, cfg PostgresConfig, options ...Option) (*DB, error) {
	conn, err := parseDSN(cfg)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db := newDB(postgres{}, options)
	n := cfg.Connections
	if n <= 0 {
		n = defaultConnections
	}
	db.write = stdlib.OpenDB(*conn)
	db.write.SetMaxOpenConns(n)
	db.write.SetMaxIdleConns(n)
	db.write.SetConnMaxLifetime(30 * time.Minute)
	db.write.SetConnMaxIdleTime(5 * time.Minute)
	db.read = db.write
	if err := db.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), db.Close())
	}
	db.feed.listen = func(ctx context.Context, heard func()) { db.listen(ctx, conn, heard) }
	db.replays = &tableReplays{db: db}
	return db, nil
}

// parseDSN reads the connection string and bounds what a hanging server or a hanging gateway can hold.
func parseDSN(cfg PostgresConfig) (*pgx.ConnConfig, error) {
	conn, err := pgx.ParseConfig(string(cfg.DSN.Bytes()))
	if err != nil {
		// The parser's error repeats parts of the string.
		return nil, errors.New("the connection string is neither a URI such as postgres://user:password@host/database?sslmode=verify-full nor a list of key=value")
	}
	if !cfg.InsecurePlaintext {
		if err := protected(conn.Host, conn.TLSConfig); err != nil {
			return nil, err
		}
		for _, f := range conn.Fallbacks {
			if err := protected(f.Host, f.TLSConfig); err != nil {
				return nil, err
			}
		}
	}
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectTimeout
	}
	for name, value := range map[string]string{
		"application_name":                    "warder",
		"statement_timeout":                   "10s",
		"lock_timeout":                        "5s",
		"idle_in_transaction_session_timeout": "10s", // a gateway that froze gives the lock of the writers back
	} {
		if _, set := conn.RuntimeParams[name]; !set {
			conn.RuntimeParams[name] = value
		}
	}
	return conn, nil
}

// protected reports an error for a connection to another machine that somebody between could read or
// change. sslmode=prefer, which is the default of PostgreSQL, is one.
func protected(host string, config *tls.Config) error {
	if strings.HasPrefix(host, "/") || host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return nil
	}
	if config == nil || config.InsecureSkipVerify && config.VerifyPeerCertificate == nil && config.VerifyConnection == nil {
		return fmt.Errorf("host %s: %w: set sslmode=verify-full", host, ErrUnprotected)
	}
	return nil
}

// listen hears of writes until ctx ends. It needs a connection of its own; while that is lost, polling
// goes on.
func (db *DB) listen(ctx context.Context, conn *pgx.ConnConfig, heard func()) {
	for lost := false; ctx.Err() == nil; lost = true {
		err := listenOnce(ctx, conn, func() {
			if lost {
				db.log.LogAttrs(ctx, slog.LevelInfo, "listening for changes of the database again")
				lost = false
			}
			heard()
		})
		if ctx.Err() != nil {
			return
		}
		if !lost {
			db.log.LogAttrs(ctx, slog.LevelWarn, "not listening for changes of the database, polling instead", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(relisten):
		}
	}
}

// listenOnce hears until the connection is lost. It reports once as soon as it listens, because of what
// was written before.
func listenOnce(ctx context.Context, config *pgx.ConnConfig, heard func()) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the connection is of no more use either way
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+changed); err != nil {
		return err
	}
	heard()
	for {
		wait, cancel := context.WithTimeout(ctx, listenCheck)
		_, err := conn.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			heard()
		case ctx.Err() != nil || wait.Err() == nil:
			return err
		default:
			check, cancel := context.WithTimeout(ctx, connectTimeout)
			err := conn.Ping(check)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}
