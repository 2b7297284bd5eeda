package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/safedial"
)

const (
	maxDocument     = 64 << 10         // bytes of a metadata document
	documentTimeout = 5 * time.Second  // for the whole fetch
	defaultFresh    = 5 * time.Minute  // without a word about caching
	minFresh        = 10 * time.Second // whatever is said about caching: one login needs the document several times
)

// fetchDocument reads a client id metadata document. Redirects are not followed: the address is the
// identity. The client decides which addresses may be dialled at all (control AUT-08).
func (is *Issuer) fetchDocument(ctx context.Context, address string) (registration, time.Duration, error) {
	if is.deps.HTTP == nil {
		return registration{}, 0, errors.New("metadata documents cannot be fetched here")
	}
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return registration{}, 0, fmt.Errorf("fetch metadata document: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	client := *is.deps.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return registration{}, 0, fmt.Errorf("fetch metadata document: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return registration{}, 0, fmt.Errorf("fetch metadata document: status %d", resp.StatusCode)
	}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
		return registration{}, 0, fmt.Errorf("fetch metadata document: media type %.80q is not JSON", media)
	}
	body, err := safedial.ReadAll(resp.Body, maxDocument)
	if err != nil {
		return registration{}, 0, fmt.Errorf("fetch metadata document: %w", err)
	}
	r, err := parseRegistration(body)
	if err != nil {
		return registration{}, 0, fmt.Errorf("read metadata document: %w", err)
	}
	return r, max(freshness(resp.Header), minFresh), nil
}

// parseRegistration reads client metadata strictly: one JSON object without repeated members.
func parseRegistration(body []byte) (registration, error) {
	if _, err := jose.ParseObject(body); err != nil {
		return registration{}, errors.New("not one JSON object without repeated members")
	}
	var r registration
	if err := json.Unmarshal(body, &r); err != nil {
		return registration{}, errors.New("a member has the wrong type")
	}
	if r.Auth == "" {
		r.Auth = authNone // RFC 7591 says client_secret_basic; we give no secret that nobody asked for
	}
	return r, r.check()
}

// freshness is how long an answer may be kept (RFC 9111 section 4.2.1); 0: not at all.
func freshness(h http.Header) time.Duration {
	fresh := defaultFresh
	for directive := range strings.SplitSeq(strings.ToLower(h.Get("Cache-Control")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return 0
			}
			fresh = time.Duration(seconds) * time.Second
		}
	}
	return fresh
}
