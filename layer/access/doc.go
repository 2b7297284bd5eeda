// Package access decides whether this principal may send this message, now. It is the last layer of
// the way in that judges: it sees the verified identity, the approved definition, the validated
// arguments and every finding, and after it nothing rewrites the message.
//
// Life of an exchange through it:
//
//	CVM-01  Request   every message is authorised by policy: requests, notifications, and the answers
//	                  of a client to a server's questions; deny by default, forbid overrides
//	CVM-01  Response  on a long stream the policy is asked again at every interval; a denial or the end
//	                  of the credential ends the stream
//
// Policy decides twice (design: "decide twice"). [Visibility] answers the first question, without
// arguments: could any call of this tool be permitted? It filters lists and keeps uninvited callers
// from the detectors. The final decision is made here, on the arguments as they were inspected.
//
// The policy language is behind [Authorizer]; package layer/access/cedar implements it.
package access
