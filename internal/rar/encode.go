package rar

import (
	"strconv"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Encode writes details in canonical form (RFC 8785), as [Parse] reads them. It returns nil when there
// are none or when one is not valid, which Parse refuses.
func Encode(details []warder.Detail) []byte {
	if len(details) == 0 || Validate(details) != nil {
		return nil
	}
	var b []byte
	sep := byte('[')
	for i := range details {
		b = appendDetail(append(b, sep), &details[i])
		sep = ','
	}
	return canonical(append(b, ']'))
}

func canonical(b []byte) []byte {
	c, err := wire.Canonical(b)
	if err != nil {
		return nil // not reached: every part was checked
	}
	return c
}

func appendDetail(b []byte, d *warder.Detail) []byte {
	b = append(b, '{')
	if len(d.Arguments) > 0 {
		b = append(appendBounds(append(b, `"arguments":`...), d.Arguments), ',')
	}
	if d.MaxCalls > 0 {
		b = append(strconv.AppendInt(append(b, `"max_calls":`...), int64(d.MaxCalls), 10), ',')
	}
	b = appendText(b, "purpose", d.Purpose)
	b = appendText(b, "server", d.Server)
	if len(d.Tools) > 0 {
		b = append(b, `"tools":`...)
		sep := byte('[')
		for _, t := range d.Tools {
			b = wire.AppendQuote(append(b, sep), t)
			sep = ','
		}
		b = append(b, ']', ',')
	}
	return append(b, `"type":"`+Type+`"}`...)
}

func appendText(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, '"'), key...), '"', ':')
	return append(wire.AppendQuote(b, value), ',')
}

func appendBounds(b []byte, bounds []warder.Bound) []byte {
	sep := byte('[')
	for i := range bounds {
		b = appendBound(append(b, sep), &bounds[i])
		sep = ','
	}
	return append(b, ']')
}

func appendBound(b []byte, o *warder.Bound) []byte {
	b = append(b, '{')
	if o.Equals != nil {
		b = append(append(append(b, `"equals":`...), o.Equals...), ',')
	}
	if o.Max != nil {
		b = append(append(append(b, `"max":`...), formatFloat(*o.Max)...), ',')
	}
	if o.Min != nil {
		b = append(append(append(b, `"min":`...), formatFloat(*o.Min)...), ',')
	}
	if o.OneOf != nil {
		b = append(b, `"one_of":`...)
		sep := byte('[')
		for _, v := range o.OneOf {
			b = append(append(b, sep), v...)
			sep = ','
		}
		b = append(b, ']', ',')
	}
	b = appendText(b, "prefix", o.Prefix)
	return append(wire.AppendQuote(append(b, `"pointer":`...), o.Pointer), '}')
}
