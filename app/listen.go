package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/tlsconf"
)

// A door is one listening socket with its HTTP server.
type door struct {
	listener net.Listener
	server   *http.Server
}

// Listen opens every listener of the configuration and serves until Close. It returns the addresses,
// in the order of the configuration, the admin listener last.
func (a *App) Listen(ctx context.Context) ([]string, error) {
	in := a.live.Load()
	limits := in.cfg.Limits.WithDefaults()
	var addrs []string
	for i := range in.cfg.Listen {
		lc := &in.cfg.Listen[i]
		srv := &http.Server{
			Handler: a, ReadHeaderTimeout: limits.HeaderTimeout, IdleTimeout: limits.IdleTimeout,
			MaxHeaderBytes: int(limits.HeaderBytes), ErrorLog: slog.NewLogLogger(a.opt.Log.Handler(), slog.LevelDebug),
		}
		addr, err := a.open(ctx, lc, in, srv)
		if err != nil {
			return nil, errors.Join(err, a.stopListening(ctx))
		}
		addrs = append(addrs, addr)
	}
	if in.cfg.Admin.Address != "" {
		srv := &http.Server{Handler: a.admin(), ReadHeaderTimeout: limits.HeaderTimeout, MaxHeaderBytes: int(limits.HeaderBytes)}
		addr, err := a.open(ctx, &config.Listener{Address: in.cfg.Admin.Address}, in, srv)
		if err != nil {
			return nil, errors.Join(err, a.stopListening(ctx))
		}
		addrs = append(addrs, addr)
	}
	if api := &in.cfg.Admin.API; api.Address != "" {
		lc := &config.Listener{Address: api.Address}
		if t := api.TLS; t != nil {
			lc.TLS = &config.TLS{Cert: t.Cert, Key: t.Key, ClientCA: t.ClientCA}
		}
		srv := &http.Server{
			Handler: a.Admin(), ReadTimeout: adminRead, WriteTimeout: time.Minute, IdleTimeout: limits.IdleTimeout,
			MaxHeaderBytes: int(limits.HeaderBytes), ErrorLog: slog.NewLogLogger(a.opt.Log.Handler(), slog.LevelDebug),
		}
		addr, err := a.open(ctx, lc, in, srv)
		if err != nil {
			return nil, errors.Join(err, a.stopListening(ctx))
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// adminRead bounds how long a request to the admin API may take to arrive.
const adminRead = 10 * time.Second

// open listens on one address. Plaintext is for loopback, or by a named exception (NET-05).
func (a *App) open(ctx context.Context, lc *config.Listener, in *instance, srv *http.Server) (string, error) {
	var tc *tls.Config
	if lc.TLS != nil {
		var err error
		if tc, err = tlsconf.ServerConfig(tlsconf.Server{Cert: lc.TLS.Cert, Key: lc.TLS.Key, ClientCA: lc.TLS.ClientCA, AskClient: lc.TLS.RequestClientCert, AllowTLS12: in.cfg.Network.AllowTLS12}); err != nil {
			return "", fmt.Errorf("listen on %s: %w", lc.Address, err)
		}
	} else if err := tlsconf.CheckPlaintext(lc.Address, in.cfg.Network.InsecurePlaintext); err != nil {
		return "", fmt.Errorf("listen on %s: %w", lc.Address, err)
	}
	var lis net.ListenConfig
	l, err := lis.Listen(ctx, "tcp", lc.Address)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", lc.Address, err)
	}
	addr := l.Addr().String()
	if tc != nil {
		srv.TLSConfig = tc
		l = tls.NewListener(l, tc)
	}
	a.doors = append(a.doors, &door{listener: l, server: srv})
	a.work.Go(func() {
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.opt.Log.ErrorContext(ctx, "serve", slog.String("address", addr), slog.Any("error", err))
		}
	})
	return addr, nil
}

// stopListening closes the doors; running calls have been drained before.
func (a *App) stopListening(ctx context.Context) error {
	var errs []error
	for _, d := range a.doors {
		if err := d.server.Shutdown(ctx); err != nil {
			errs = append(errs, err, d.server.Close())
		}
	}
	return errors.Join(errs...)
}

// admin serves health, readiness and metrics to operators on loopback.
func (a *App) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // the prober may be gone
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := a.services.trail.Healthy(); err != nil {
			a.opt.Log.WarnContext(r.Context(), "not ready", slog.Any("error", err))
			http.Error(w, "audit trail unavailable", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n")) // the prober may be gone
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		a.live.Load().telemetry.Handler().ServeHTTP(w, r)
	})
	return mux
}
