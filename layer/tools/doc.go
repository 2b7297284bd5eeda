// Package tools is the layer that lets a client see and call only what was vetted for it.
//
// The life of an exchange through it:
//
//	Request   MST-01  the named tool, prompt or resource exists and the principal may see it;
//	                  otherwise the answer is "not found", whichever of the two is the cause
//	          TDP-04  what the server now offers under that name is exactly what was approved;
//	                  a list older than the refresh time, or declared changed, is fetched again first
//	Response  TDP-04  definitions in lists, and the instructions of a server, that are not approved
//	                  are taken out; the others keep their bytes
//	          MST-01  what the principal may not see is taken out, the rest is put in order of names,
//	                  and the answer is marked private
//
// What a server offers is remembered per server and principal, because a server may answer each
// principal differently; equal lists are kept once. [Definitions] holds that memory. PRT-10 tells it
// at once when a server announces a change.
package tools
