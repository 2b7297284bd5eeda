// Package cedar decides access with Cedar policies. It is the only importer of the Cedar library.
//
// Policies are loaded once, checked against the published schema ([Schema]), and sliced: an index by
// principal scope and resource scope finds the few policies that can concern one request among
// thousands, and the result is remembered per principal, resource and action. Slicing never changes a
// decision: a policy left out is one whose scope cannot match, and those neither permit, forbid nor
// fail.
//
// Deny is the default, forbid overrides permit, no policies deny everything, and an evaluation error
// in any policy of the slice denies, because the policy that failed could have been a forbid.
//
// # Arguments
//
// Cedar has no type for "any JSON". The members of context.arguments that a policy names get the type
// of their use (`like` makes a string, `<` a number, `.contains` a set, `.isInRange` an address), the
// policy is then checked with that type, and at run time exactly these members are read from the
// message. Every access needs its guard, as the schema checker demands:
//
//	permit (principal in Warder::Group::"dev", action == Warder::Action::"tools/call",
//	        resource == Warder::Tool::"files/read")
//	when { context has arguments && context.arguments has path && context.arguments.path like "/srv/*" };
//
// A member that is null counts as absent, arrays are sets, an integral number is a Long and another one
// a decimal of at most four digits. What cannot be represented, or has another type than the policy
// says, denies.
package cedar
