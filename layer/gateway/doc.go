// Package gateway is the second line of defence: is this proper MCP, and at a proper rate.
//
// Connect, headers only:
//
//	GW-03   the peer's address stays within its rate
//	GW-04   a peer that keeps presenting bad credentials waits
//	PRT-11  the HTTP+SSE transport of 2024-11-05 is off unless configured
//
// Request, the message is decoded and the caller known:
//
//	GW-03   principal, client, agent, tenant, server and tool stay within their rates
//	PRT-02  headers say what the body says
//	PRT-06  the session and the task belong to the caller
//	GW-01   the message is one that the revision has, in this direction, in the published form
//	GW-04   calls do not repeat without change, nor nest without end
//	PRT-11  deprecated features are off unless configured
//	PRT-04  what the client says of itself does not contradict its credentials
//	PRT-09  extensions are those that are allowed
//	PRT-05  state that comes back is ours, unchanged, for this caller and this request
//	PRT-10  subscriptions are bounded
//
// Response, for every message of the answer:
//
//	PRT-11  no deprecated question or notification; sampling within its budget
//	PRT-09  no unknown extension, no unknown kind of result
//	GW-01   the message is one that the server may send, in the published form
//	PRT-08  tools whose schema is not safe are left out of lists
//	PRT-05  the server's questions are harmless; its state is sealed
//	PRT-06  tasks are bound to the caller who started them
//	PRT-10  change notifications are bounded and lead to verification
//	GW-04   the result is remembered, to tell polling from a loop
//
// Complete: GW-04 counts refused credentials, PRT-10 and PRT-11 release what an exchange held.
//
// Controls that only read do not allocate on the way through. Those that take something away from a
// message (PRT-04, PRT-09, PRT-11, PRT-08) or wrap it (PRT-05) splice the bytes, and the result is
// decoded again before anything else sees it.
package gateway
