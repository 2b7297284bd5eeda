package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/wire"
)

// A ReceiverConfig says whose decisions are taken.
type ReceiverConfig struct {
	Keys   []Key  // one of them must have signed
	Issuer string // who vouches for the people named in decisions; they are "issuer|subject" in rules
}

// ReceiverDeps are what a receiver needs from outside.
type ReceiverDeps struct {
	Decide  func(context.Context, broker.HoldDecision) (broker.Hold, error) // required
	Replays state.Replays                                                   // required
	Now     func() time.Time                                                // nil for time.Now
	Log     *slog.Logger                                                    // nil for none
}

// maxBody bounds a message in, in bytes.
const maxBody = 16 << 10

// A Receiver takes signed decisions over HTTP. It is safe for concurrent use.
type Receiver struct {
	cfg  ReceiverConfig
	deps ReceiverDeps
}

var _ http.Handler = (*Receiver)(nil)

// NewReceiver returns the handler of decisions.
func NewReceiver(cfg ReceiverConfig, deps ReceiverDeps) (*Receiver, error) {
	if len(cfg.Keys) == 0 || cfg.Issuer == "" || deps.Decide == nil || deps.Replays == nil {
		return nil, errors.New("webhook: no keys, no issuer, nobody decides or nothing remembers messages")
	}
	for _, k := range cfg.Keys {
		if err := k.check(false); err != nil {
			return nil, err
		}
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Receiver{cfg, deps}, nil
}

// A decision is the body of a message in.
type decision struct {
	Type string `json:"type"` // "approval.decided"
	Data struct {
		Hold     string `json:"id"`
		Nonce    string `json:"nonce"`
		Decision string `json:"decision"` // "approve" or "deny"
		By       struct {
			Subject string   `json:"subject"`
			Groups  []string `json:"groups,omitempty"`
		} `json:"by"`
		Comment string `json:"comment,omitempty"`
	} `json:"data"`
}

// ServeHTTP takes one decision. The answer is 204, or a status without a body: 400 not understood, 401 not
// signed by a known key or too old, 403 this person may not decide, 404 no such call, 409 decided, ended
// or sent before, 503 the store or the trail cannot be asked.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(r.take(q))
}

func (r *Receiver) take(q *http.Request) int {
	if q.Method != http.MethodPost {
		return http.StatusMethodNotAllowed
	}
	if media, _, err := mime.ParseMediaType(q.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return http.StatusUnsupportedMediaType
	}
	body, err := io.ReadAll(io.LimitReader(q.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return http.StatusBadRequest
	}
	id := q.Header.Get(headerID)
	if status := r.signed(q, id, body); status != 0 {
		return status
	}
	var d decision
	if !strict(body, &d) || d.Type != "approval.decided" || d.Data.By.Subject == "" {
		return http.StatusBadRequest
	}
	if d.Data.Decision != "approve" && d.Data.Decision != "deny" {
		return http.StatusBadRequest
	}
	fresh, err := r.deps.Replays.Add(q.Context(), "webhook "+id, r.deps.Now().Add(2*tolerance))
	if err != nil {
		return http.StatusServiceUnavailable
	}
	if !fresh {
		return http.StatusConflict
	}
	_, err = r.deps.Decide(q.Context(), broker.HoldDecision{
		Hold: d.Data.Hold, Nonce: d.Data.Nonce, Approve: d.Data.Decision == "approve",
		By:      broker.Person{Issuer: r.cfg.Issuer, Subject: d.Data.By.Subject, Groups: d.Data.By.Groups, Operator: true},
		Channel: "webhook", Comment: d.Data.Comment,
	})
	return r.status(q.Context(), d.Data.Hold, err)
}

// signed verifies time and signature; zero means good.
func (r *Receiver) signed(q *http.Request, id string, body []byte) int {
	timestamp := q.Header.Get(headerTimestamp)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || id == "" || len(id) > 256 || strings.Contains(id, ".") {
		return http.StatusBadRequest
	}
	if age := r.deps.Now().Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return http.StatusUnauthorized
	}
	if !verify(r.cfg.Keys, id, timestamp, q.Header.Get(headerSignature), body) {
		return http.StatusUnauthorized
	}
	return 0
}

// strict decodes a body without unknown and repeated members.
func strict(body []byte, into any) bool {
	if wire.Validate(body, wire.Limits{}) != nil {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(into) == nil
}

func (r *Receiver) status(ctx context.Context, hold string, err error) int {
	switch {
	case err == nil:
		return http.StatusNoContent
	case errors.Is(err, broker.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, broker.ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, broker.ErrDecided), errors.Is(err, broker.ErrEnded), errors.Is(err, broker.ErrNonce):
		return http.StatusConflict
	default:
		r.deps.Log.ErrorContext(ctx, "a decision that arrived cannot be taken", slog.String("hold", strconv.Quote(hold)), slog.Any("error", err))
		return http.StatusServiceUnavailable
	}
}
