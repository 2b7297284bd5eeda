package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/tlsconf"
)

// Config says where Warder keeps its state. The zero value is one SQLite file, which serves one gateway.
type Config struct {
	Postgres Postgres `yaml:"postgres"` // the database that several gateways share; without it each has a SQLite file in its data folder
	Redis    Redis    `yaml:"redis"`    // where several gateways remember the proofs that clients used (RFC 9449 section 11.1); without it they ask PostgreSQL, and a single gateway its memory
}

// Postgres is a PostgreSQL database, version 13 or later.
type Postgres struct {
	DSN               secret.Ref `yaml:"dsn"`                // connection string with user, password, host, database and sslmode=verify-full; a secret because of the password
	Connections       int        `yaml:"connections"`        // connections at once; 0 means 8
	InsecurePlaintext bool       `yaml:"insecure_plaintext"` // accept a connection to another machine that is not protected by verified TLS, because the network is protected otherwise
}

// Redis is a Redis or Valkey server, version 6.2 or later, with the policy noeviction. Clusters are not
// supported; a server with replicas is.
type Redis struct {
	Address           string          `yaml:"address"`            // host:port; empty: no Redis
	Username          string          `yaml:"username"`           // user of the access control list; empty: the default user
	Password          secret.Ref      `yaml:"password"`           // of the user
	TLS               *tlsconf.Client `yaml:"tls"`                // how the server is verified; absent: no TLS
	InsecurePlaintext bool            `yaml:"insecure_plaintext"` // accept a connection to another machine without TLS, because the network is protected otherwise
}

// Validate reports what makes no sense in the section.
func (c Config) Validate() error {
	var errs []error
	if !c.Postgres.DSN.IsZero() {
		if err := c.Postgres.DSN.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("postgres.dsn: %w", err))
		}
	}
	if c.Postgres.Connections < 0 || c.Postgres.Connections == 1 {
		errs = append(errs, errors.New("postgres.connections: want 2 or more, or 0 for 8"))
	}
	if !c.Redis.Password.IsZero() {
		if err := c.Redis.Password.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("redis.password: %w", err))
		}
	}
	if c.Redis.Address == "" && (c.Redis.Username != "" || !c.Redis.Password.IsZero() || c.Redis.TLS != nil) {
		errs = append(errs, errors.New("redis.address: it is missing"))
	}
	return errors.Join(errs...)
}

// Shared reports whether several gateways can share the state.
func (c Config) Shared() bool { return !c.Postgres.DSN.IsZero() }

// OpenConfig opens what the configuration says; path is the SQLite file where there is no PostgreSQL.
func OpenConfig(ctx context.Context, cfg Config, path string, options ...Option) (_ *DB, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	var db *DB
	if cfg.Shared() {
		dsn, err := cfg.Postgres.DSN.Read(ctx)
		if err != nil {
			return nil, fmt.Errorf("state.postgres.dsn: %w", err)
		}
		db, err = OpenPostgres(ctx, PostgresConfig{DSN: dsn, Connections: cfg.Postgres.Connections, InsecurePlaintext: cfg.Postgres.InsecurePlaintext}, options...)
		if err != nil {
			return nil, err
		}
	} else if db, err = Open(ctx, path, options...); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	if cfg.Redis.Address == "" {
		return db, nil
	}
	redis := RedisConfig{Address: cfg.Redis.Address, Username: cfg.Redis.Username, TLS: cfg.Redis.TLS, InsecurePlaintext: cfg.Redis.InsecurePlaintext}
	if !cfg.Redis.Password.IsZero() {
		if redis.Password, err = cfg.Redis.Password.Read(ctx); err != nil {
			return nil, fmt.Errorf("state.redis.password: %w", err)
		}
	}
	if err := db.UseRedis(ctx, redis); err != nil {
		return nil, err
	}
	return db, nil
}
