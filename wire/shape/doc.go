// Package shape judges whether a message has the form that its revision of the Model Context
// Protocol publishes: every method in every direction, its params, its result, and the error object.
//
// The rules are tables in a small language of our own, one file per revision, derived from the
// published JSON Schemas by internal/tools/shapegen and parsed once at start-up:
//
//	client request tools/call params: CallToolRequestParams result: CallToolResult
//	CallToolRequestParams = {name: string, arguments?: {*: any}, _meta?: RequestMetaObject}
//	Role = ("assistant" | "user")
//
// A member with "?" may be absent, "*" says what other members may be, [T] is an array, (A | B) is
// any of these, string<uri> has a format, number[0..1] bounds. An object without "*" is silent about
// other members: the published reading admits them, the closed reading ([Query].Closed, control
// INV-04) does not.
//
// [Set.Check] works on bytes that wire.Decode accepted, in one pass and without allocating when they
// pass. Only a failure is explained, with a pointer and what was expected, never with the value.
//
// # Differences from the published schemas
//
// Warder refuses more than the schemas in these cases and no others; the proof test counts them:
//
//   - format_uri, format_uri_template, format_byte: formats are asserted (RFC 3986, RFC 6570,
//     RFC 4648 section 4); in the schemas they are notes. Policies compare URIs, and what two
//     parsers read differently cannot be compared.
//   - integer_form: an integer is written without exponent. 1e2 is an integer to a schema and an
//     error or a different number to many decoders.
//   - result_type: in 2026-07-28 a result says the resultType that belongs to it. The schema of
//     InputRequiredResult demands nothing but some resultType, so that without this rule any answer
//     to tools/call would pass.
//   - result_of_method: a result is judged by the method asked, and an answer of the client by the
//     question. The published unions ServerResult and ClientResult contain Result, which admits
//     every object.
//
// And Warder is milder than one definition, though not than the message schema that contains it:
//
//   - elicited_number: up to 2025-11-25 the content of ElicitResult may hold a fraction, where the
//     schema says integer, the TypeScript source says number, and NumberSchema asks for numbers. The
//     message schema admits it, since ClientResult admits every object. In 2026-07-28 the answer is
//     part of a request whose schema refuses it, so Warder refuses it there.
package shape
