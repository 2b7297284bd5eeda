//go:build !unix

package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
)

// A keeper does not exist here: requests go through http.Transport.
type keeper struct{}

func newKeeper(Config, func(context.Context, string, string) (net.Conn, error)) *keeper { return nil }

func (*keeper) do(context.Context, *url.URL, http.Header, *payload) (*http.Response, error) {
	return nil, errors.ErrUnsupported
}

func (*keeper) close() {}
