// Package access decides whether this principal may send this message, now. It is the last layer of
// the way in that judges: it sees the verified identity, the approved definition, the validated
// arguments and every finding, and after it nothing rewrites the message.
//
// Life of an exchange through it:
//
//	JIT-04  Connect   who was revoked goes no further
//	JIT-04  Request   nor does a message about what was revoked, or when that is not known freshly enough
//	CVM-04            the caller's risk is looked up: it may ask for more, or refuse
//	JIT-01            a grant that covers the call is found
//	JIT-05            if it is a step of a plan, the plan must stand there
//	JIT-01            effects that need a grant are refused without one
//	JIT-02            circumstances that the effect requires must be known and good
//	CVM-01            every message is authorised by policy: requests, notifications, and the answers of a
//	                  client to a server's questions; deny by default, forbid overrides
//	JIT-03            the call must serve the purpose it is made for
//	CVM-03            what permits ask for besides is met: a stronger or fresher login, a grant
//	HIL-02            people are not asked too often
//	HIL-01            a person approves exactly this call
//	JIT-01            the use of the grant is counted
//	JIT-04  Response  what was revoked meanwhile is withheld
//	CVM-01            on a long stream policy is asked again at every interval
//	JIT-05            the next step of the plan is granted
//	JIT-04  Review    the same while nothing flows, and at once when something was revoked
//	CVM-04            credential, grant, risk, circumstances and policy are judged again
//	CVM-04  Complete  what the call did changes the risk of the next; a failed step is given back
//
// The state behind it (grants, plans, approvals, scores, revocations) is reached through the small
// interfaces of [Deps] only. What is not there knows nothing, and a call that needs it is refused.
//
// Policy decides twice (design: "decide twice"). [Visibility] answers the first question, without
// arguments: could any call of this tool be permitted? It filters lists and keeps uninvited callers
// from the detectors. The final decision is made here, on the arguments as they were inspected.
//
// The policy language is behind [Authorizer]; package layer/access/cedar implements it.
package access
