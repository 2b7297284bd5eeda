package record

import (
	"context"
	"log/slog"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// intent writes down what is about to happen before it happens. Control LOG-04; phase Request, last
// on the way in, after policy has decided.
//
// A call that may change something is forwarded only after its record is durable. A call that changes
// nothing is forwarded at once when the trail is in order, and its record follows within the
// configured delay. When the trail cannot be written, nothing is forwarded.
type intent struct {
	log    *Log
	digest string // of the configuration
	now    func() time.Time
}

var _ warder.Interceptor = (*intent)(nil)

// Control returns the id in the catalogue.
func (*intent) Control() warder.ControlID { return "LOG-04" }

// Intercept records the intent of x.
func (c *intent) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if err := c.log.Healthy(); err != nil {
		return unavailable(err), nil
	}
	if !x.Request.IsCall() {
		return warder.Continue(), nil // notifications and answers: the finished record follows
	}
	if err := c.capture(x); err != nil {
		return warder.Decision{}, err
	}
	at, m := c.now(), c.log.marksOf(x)
	if !effectful(x) {
		err := c.log.late.add(x, at, m, func(b []byte) []byte { return c.encode(b, x, m, at) })
		if err != nil {
			return unavailable(err), nil
		}
		return warder.Continue(), nil
	}
	buf := c.log.buffer()
	defer c.log.release(buf)
	*buf = c.encode((*buf)[:0], x, m, at)
	if _, err := c.log.wal.AppendSync(ctx, *buf); err != nil {
		return unavailable(err), nil
	}
	c.log.late.written(x, m)
	return warder.Continue(), nil
}

func (c *intent) encode(b []byte, x *warder.Exchange, m marks, at time.Time) []byte {
	var e warder.Event
	var p warder.EventPrincipal
	describe(&e, &p, x, m, warder.EventIntent, at)
	e.Policies, e.BytesIn, e.ConfigDigest = x.Policies, x.BytesIn, c.digest
	return AppendEvent(b, &e)
}

func unavailable(err error) warder.Decision {
	return warder.Refuse(warder.CodeUnavailable, "audit_unavailable", err.Error()).
		Tell("The audit trail cannot be written; the call was not forwarded.")
}

// effectful reports whether forwarding x.Request may change something. Only methods that are known
// to change nothing, and tools that our registry knows as read-only, are not.
func effectful(x *warder.Exchange) bool {
	switch x.Request.Method {
	case wire.MethodToolsCall:
		return x.Tool == nil || x.Tool.Effect != warder.EffectRead
	case "initialize", "ping", "server/discover", "tools/list", "prompts/list", "prompts/get",
		"resources/list", "resources/templates/list", "resources/read", "resources/subscribe",
		"resources/unsubscribe", "completion/complete", "logging/setLevel", "subscriptions/listen",
		"tasks/get", "tasks/list", "tasks/result", "roots/list":
		return false
	default:
		return true
	}
}

// capture keeps the client's message for replay, if that is configured.
func (c *intent) capture(x *warder.Exchange) error {
	if c.log.vault == nil {
		return nil
	}
	return c.log.vault.put(x.ID, x.Inbound.Raw)
}

// logged is how a recorder's failure reaches the operator: the exchange has ended, nobody can be
// refused any more.
func (l *Log) logged(ctx context.Context, err error) error {
	l.lost.Add(1)
	l.logger.ErrorContext(ctx, "audit record lost", slog.Any("error", err))
	return err
}
