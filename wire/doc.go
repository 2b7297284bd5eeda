// Package wire reads and writes the Model Context Protocol as bytes: one strict pass over a
// JSON-RPC message, edits by byte range, the framing of stdio and server-sent events, header values,
// and the translation between the stateful and the stateless revisions.
//
// [Decode] is the only door for messages. It accepts less than any other parser: what it accepts
// reads the same in every conforming parser and also in parsers that ignore the case of member names
// or keep one of two equal members. A message is never changed in place and never encoded again as a
// whole: [Splice] replaces ranges of bytes and decodes the outcome again, so the bytes that were
// judged are the bytes that travel.
//
//	m, err := wire.Decode(body, wire.Limits{})
//	if err != nil {
//		return err // *warder.Error with code, reason and nothing of the message
//	}
//	edit := wire.SetMember(m, m.ParamsSpan, m.Params, "name", wire.Quote("search"))
//	m, err = wire.Splice(m, wire.Limits{}, edit)
//
// A [Value] walks what Decode accepted without reading it into maps. [Canonical] is RFC 8785.
//
// Control PRT-01 lives here: which revisions are spoken, the floor below which none is, and which
// methods exist in which revision and direction. See [Negotiate], [Method] and [Floor].
package wire
