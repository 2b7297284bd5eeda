// Package rar reads, writes, compares and applies authorization details of type "mcp" (RFC 9396): what
// a credential narrows its holder to.
//
//	[{"type":"mcp","server":"files","tools":["read_file"],
//	  "arguments":[{"pointer":"/path","prefix":"/srv/reports/"}],
//	  "purpose":"quarterly report","max_calls":20}]
//
// Every member but type may be left out, and then does not narrow. Several details are alternatives:
// a call is covered when one of them covers it (RFC 9396 section 3). The same bounds limit grants.
//
// [Parse] is strict: unknown members, repeated members, empty lists and anything over a bound are
// errors, because a detail that is not understood must not be taken for one that allows more.
package rar
