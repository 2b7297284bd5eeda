package warder

// A Kind tells what a JSON-RPC message is.
type Kind uint8

// The four kinds of JSON-RPC 2.0 messages.
const (
	KindRequest      Kind = iota + 1 // method and id
	KindNotification                 // method, no id
	KindResult                       // id and result
	KindError                        // error, usually with id
)

// String returns the kind's word in audit records.
func (k Kind) String() string {
	switch k {
	case KindRequest:
		return "request"
	case KindNotification:
		return "notification"
	case KindResult:
		return "result"
	case KindError:
		return "error"
	default:
		return "unknown"
	}
}

// A Span is a half-open range of bytes in a message. The zero span means "absent".
type Span struct{ Start, End int }

// Present reports whether the span marks a value.
func (s Span) Present() bool { return s.End > s.Start }

// A Member is one name/value pair of a JSON object, in document order.
type Member struct {
	Key   string // unescaped
	Name  Span   // the key with its quotes, as written
	Value Span   // the value, without surrounding white space
}

// An Object lists the members of one JSON object. Nil means the object is absent.
type Object []Member

// Get returns the span of the value stored under key; the span is absent if there is none.
func (o Object) Get(key string) Span {
	for i := range o {
		if o[i].Key == key {
			return o[i].Value
		}
	}
	return Span{}
}

// A Message is one JSON-RPC message: its exact bytes and what one strict pass of package wire found
// in them. A message is never changed in place: wire.Splice returns a new one, decoded again.
//
// The bytes are valid UTF-8 JSON without duplicate or case-colliding keys, within the depth and
// size limits, so every conforming parser reads the same meaning from them.
type Message struct {
	Kind   Kind
	Raw    []byte // exact bytes, without surrounding white space
	ID     Span   // JSON-RPC id as written: an integer or a string; absent for notifications
	Method string // requests and notifications

	Envelope Object // top-level members
	Params   Object // members of params; nil if absent
	Meta     Object // members of params._meta or result._meta; nil if absent
	Result   Object // members of result; nil if absent
	Failure  Object // members of error; nil if absent

	ParamsSpan Span // whole params value
	ResultSpan Span // whole result value
	ErrorSpan  Span // whole error value

	// Target is what the message acts on, unescaped: params.name of tools/call and prompts/get,
	// params.uri of resources/*, params.taskId of tasks/*. Empty otherwise.
	Target string

	Depth int // deepest nesting met
}

// At returns the bytes of a span; nil if it is absent. The bytes alias Raw and must not be changed.
func (m *Message) At(s Span) []byte {
	if !s.Present() {
		return nil
	}
	return m.Raw[s.Start:s.End]
}

// IDBytes returns the id as written on the wire, nil if there is none.
func (m *Message) IDBytes() []byte { return m.At(m.ID) }

// IsCall reports whether the message asks for an answer.
func (m *Message) IsCall() bool { return m.Kind == KindRequest }

// IsAnswer reports whether the message answers a request.
func (m *Message) IsAnswer() bool { return m.Kind == KindResult || m.Kind == KindError }
