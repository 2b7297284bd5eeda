package wire

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/warder-mcp/warder"
)

// ErrInput says that a result that asks for input, or the answers to one, are malformed.
var ErrInput = errors.New("input requests: malformed")

// maxQuestions bounds the questions of one result, and the answers of one request.
const maxQuestions = 64

// A Question is what a server asks of the client: a sampling, an elicitation or the roots.
type Question struct {
	Key    string // the server's name for the question, unique in its result
	Method string
	Params []byte // JSON object; nil if absent
}

// ResultType returns the resultType of a result (2026-07-28); "complete" when it is absent, empty
// when the message is not a result or the member is not a string.
func ResultType(m *warder.Message) string {
	if m.Kind != warder.KindResult {
		return ""
	}
	v := At(m, m.Result.Get("resultType"))
	if !v.Exists() {
		return ResultComplete
	}
	text, _ := v.Text()
	return text
}

// RequestState returns requestState of a result or of a request's params, as written; nil if absent.
func RequestState(m *warder.Message) []byte { return m.At(bodyMembers(m).Get("requestState")) }

// InputRequests reads the questions of a result that asks for input (2026-07-28,
// InputRequiredResult), in document order; none for any other result. A question that is not one of
// the three kinds is an error, as is a result without questions and state. The error is ErrInput.
func InputRequests(m *warder.Message) ([]Question, error) {
	if ResultType(m) != ResultInputRequired {
		return nil, nil
	}
	asked, state := At(m, m.Result.Get("inputRequests")), At(m, m.Result.Get("requestState"))
	if state.Exists() && state.Kind() != '"' || asked.Exists() && asked.Kind() != '{' {
		return nil, ErrInput
	}
	if !asked.Exists() && !state.Exists() {
		return nil, fmt.Errorf("%w: neither questions nor state", ErrInput)
	}
	var out []Question
	for key, v := range asked.Members() {
		q, err := question(key, v)
		if err != nil {
			return nil, err
		}
		if out = append(out, q); len(out) > maxQuestions {
			return nil, fmt.Errorf("%w: too many", ErrInput)
		}
	}
	return out, nil
}

func question(key Key, v Value) (Question, error) {
	method, ok := v.Get("method").Text()
	if !ok {
		return Question{}, fmt.Errorf("%w: method", ErrInput)
	}
	info, known := Method(warder.Revision20260728, method)
	if !known || !info.Input {
		return Question{}, fmt.Errorf("%w: method is not a question", ErrInput)
	}
	params := v.Get("params")
	if params.Exists() && params.Kind() != '{' {
		return Question{}, fmt.Errorf("%w: params", ErrInput)
	}
	return Question{Key: key.Unescaped(), Method: method, Params: params.Raw()}, nil
}

// InputRequired returns the response that asks for input. State is left out if empty; there must be
// questions or state.
func InputRequired(id []byte, questions []Question, state string) []byte {
	r := []byte(`{"resultType":"input_required"`)
	if len(questions) > 0 {
		r = append(r, `,"inputRequests":{`...)
		for i, q := range questions {
			if i > 0 {
				r = append(r, ',')
			}
			r = append(AppendQuote(r, q.Key), `:{"method":`...)
			r = AppendQuote(r, q.Method)
			if len(q.Params) > 0 {
				r = append(append(r, `,"params":`...), q.Params...)
			}
			r = append(r, '}')
		}
		r = append(r, '}')
	}
	if state != "" {
		r = AppendQuote(append(r, `,"requestState":`...), state)
	}
	return Response(id, append(r, '}'))
}

// InputResponses reads the answers that a request brings, by the key of the question; none if it
// brings none. Each is a JSON object. The error is ErrInput.
func InputResponses(m *warder.Message) (map[string][]byte, error) {
	out := map[string][]byte{}
	v := At(m, m.Params.Get("inputResponses"))
	if v.Exists() && v.Kind() != '{' {
		return nil, ErrInput
	}
	for key, answer := range v.Members() {
		if answer.Kind() != '{' || len(out) >= maxQuestions {
			return nil, ErrInput
		}
		out[key.Unescaped()] = answer.Raw()
	}
	return out, nil
}

// WithInputResponses returns the retry of a request with answers to its questions. The id must be
// new; state is requestState as the server wrote it, a JSON string with its quotes, nil for none.
func WithInputResponses(m *warder.Message, id []byte, answers map[string][]byte, state []byte, lim Limits) (*warder.Message, error) {
	if m.Params == nil {
		return nil, warder.Fail(warder.CodeInternal, ReasonBadEdit, nil)
	}
	edits, drop := []Edit{SetMember(m, Whole(m), m.Envelope, "id", id)}, []string(nil)
	set := func(key string, value []byte) {
		if len(value) == 0 {
			drop = append(drop, key)
			return
		}
		edits = append(edits, SetMember(m, m.ParamsSpan, m.Params, key, value))
	}
	set("inputResponses", answersObject(answers))
	set("requestState", state)
	return Splice(m, lim, append(edits, RemoveMembers(m, m.Params, m.ParamsSpan, drop...)...)...)
}

// answersObject writes the answers, sorted by key; nil if there are none.
func answersObject(answers map[string][]byte) []byte {
	if len(answers) == 0 {
		return nil
	}
	b := []byte{'{'}
	for i, key := range slices.Sorted(maps.Keys(answers)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(AppendQuote(b, key), ':'), answers[key]...)
	}
	return append(b, '}')
}

// QuestionToModern turns a stateful server's request into a question under a key: members that
// stateless revisions do not have there (task, elicitationId, _meta) are dropped. The
// error is ErrInput when the request is not a question.
func QuestionToModern(m *warder.Message, key string) (Question, error) {
	info, ok := Method(warder.Revision20260728, m.Method)
	if m.Kind != warder.KindRequest || !ok || !info.Input {
		return Question{}, fmt.Errorf("%w: method is not a question", ErrInput)
	}
	q := Question{Key: key, Method: m.Method}
	if m.Params != nil {
		drop := []string{"task", "elicitationId"}
		if m.Meta != nil {
			drop = append(drop, "_meta")
		}
		q.Params = without(m.At(m.ParamsSpan), drop...)
	}
	return q, nil
}

// QuestionToLegacy turns a question into a request to a stateful client. An elicitation by URL gets
// the elicitation id that those revisions require.
func QuestionToLegacy(q Question, id []byte, elicitationID string) []byte {
	params := q.Params
	if q.Method == MethodElicit && Parse(params).Get("mode").Equals("url") {
		params = without(params, "elicitationId")
		params = AppendQuote(append(params[:len(params)-1], `,"elicitationId":`...), elicitationID)
		params = append(params, '}')
	}
	return Request(id, q.Method, params)
}
