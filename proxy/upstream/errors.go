package upstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/warder-mcp/warder"
)

// Reasons of failures. They are stable and safe to show. Their code is CodeUpstreamFailed, save for
// ReasonTimeout, which is CodeTimeout.
const (
	ReasonUnreachable  warder.Reason = "upstream_unreachable"      // no connection, no child process
	ReasonOpen         warder.Reason = "upstream_circuit_open"     // the breaker is open
	ReasonBusy         warder.Reason = "upstream_too_many_links"   // bound on sessions or children
	ReasonRestarting   warder.Reason = "upstream_restarting"       // a dead child waits for its restart
	ReasonNotMCP       warder.Reason = "upstream_not_mcp"          // no era of the protocol is spoken
	ReasonVersion      warder.Reason = "upstream_version"          // it chose a revision nobody knows
	ReasonInitialize   warder.Reason = "upstream_initialize"       // it refused to open a session
	ReasonMalformed    warder.Reason = "upstream_malformed"        // an answer is not acceptable JSON
	ReasonTooLarge     warder.Reason = "upstream_too_large"        // a message or the whole answer
	ReasonFlood        warder.Reason = "upstream_flood"            // more messages than anybody reads
	ReasonClosed       warder.Reason = "upstream_closed"           // it ended before its answer
	ReasonTimeout      warder.Reason = "upstream_timeout"          // no message, or no answer, in time
	ReasonWrongID      warder.Reason = "upstream_wrong_id"         // the answer is to something else
	ReasonNoAnswer     warder.Reason = "upstream_no_answer"        // it accepted, but did not answer
	ReasonStatus       warder.Reason = "upstream_status"           // HTTP status without an answer
	ReasonUnauthorized warder.Reason = "upstream_unauthorized"     // 401 or 403 to Warder itself
	ReasonLimited      warder.Reason = "upstream_rate_limited"     // 429
	ReasonRedirect     warder.Reason = "upstream_redirect"         // redirects are never followed
	ReasonMediaType    warder.Reason = "upstream_media_type"       // neither JSON nor an event stream
	ReasonEncoding     warder.Reason = "upstream_content_encoding" // compressed, though not asked for
	ReasonSessionLost  warder.Reason = "upstream_session_lost"     // 404: the session has ended
	ReasonShutdown     warder.Reason = "upstream_shutting_down"    // Warder closes the link
	ReasonQuestion     warder.Reason = "question_unknown"          // an answer to nothing asked
)

// Findings: what a server sent that nobody may see. They are counted in [Stats] and logged.
const (
	findUnknownID   = "upstream_wrong_id"         // answer to a request that is not open, or a second answer
	findAfterAnswer = "upstream_after_answer"     // message on a stream whose call was answered
	findMalformed   = "upstream_malformed"        // undecodable message
	findOversized   = "upstream_too_large"        // oversized message
	findToken       = "upstream_wrong_token"      // progress of a request that is not open
	findForbidden   = "upstream_forbidden_kind"   // request of the server in the stateless era
	findQuestions   = "upstream_question_flood"   // more questions than the bound
	findUntaken     = "upstream_question_untaken" // a question nobody took
	findEndpoint    = "upstream_foreign_endpoint" // HTTP+SSE endpoint of another origin
)

// fail builds the error a caller of the package sees.
func fail(reason warder.Reason, err error) *warder.Error {
	code := warder.CodeUpstreamFailed
	if reason == ReasonTimeout {
		code = warder.CodeTimeout
	}
	return warder.Fail(code, reason, err)
}

func failf(reason warder.Reason, format string, args ...any) *warder.Error {
	return fail(reason, fmt.Errorf(format, args...))
}

// undecodable turns an error of the strict decoder into a failure of the server.
func undecodable(err error) *warder.Error {
	if errors.Is(err, &warder.Error{Code: warder.CodeTooLarge}) {
		return fail(ReasonTooLarge, err)
	}
	return fail(ReasonMalformed, err)
}

// asFailure finds the failure in err, or makes one with the reason given.
func asFailure(err error, reason warder.Reason) *warder.Error {
	if e, ok := errors.AsType[*warder.Error](err); ok {
		return e
	}
	return fail(reason, err)
}

// Causes of ended calls.
var (
	errIdle = errors.New("no message in time")
	errHard = errors.New("no answer within the hard maximum")

	errShutdown = errors.New("the server's connections are being closed")
)

// ended explains why a call stopped whose context is done: the caller went away (the context's own
// error), or time is over.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errIdle) || errors.Is(cause, errHard) || errors.Is(cause, context.DeadlineExceeded) {
		return fail(ReasonTimeout, cause)
	}
	if errors.Is(cause, errShutdown) {
		return fail(ReasonShutdown, cause)
	}
	return fmt.Errorf("call ended by the caller: %w", cause)
}
