package admin

import "slices"

// A Role is what an operator may do. An operator may have several; no role includes another, the table
// of rules says everything.
type Role string

// The roles.
const (
	RoleViewer        Role = "viewer"
	RoleApprover      Role = "approver"
	RoleOperator      Role = "operator"
	RoleSecurityAdmin Role = "security-admin"
	RoleOwner         Role = "owner"
)

// AllRoles lists every role, from the least to the most.
func AllRoles() []Role {
	return []Role{RoleViewer, RoleApprover, RoleOperator, RoleSecurityAdmin, RoleOwner}
}

// of returns the roles that groups have.
func (r *Roles) of(groups []string) []Role {
	var roles []Role
	for _, row := range []struct {
		role   Role
		groups []string
	}{
		{RoleViewer, r.Viewer},
		{RoleApprover, r.Approver},
		{RoleOperator, r.Operator},
		{RoleSecurityAdmin, r.SecurityAdmin},
		{RoleOwner, r.Owner},
	} {
		if slices.ContainsFunc(row.groups, func(g string) bool { return g != "" && slices.Contains(groups, g) }) {
			roles = append(roles, row.role)
		}
	}
	return roles
}

// A Need says when an operation needs the second factor.
type Need string

// The needs.
const (
	NeedNever  Need = "never"
	NeedAlways Need = "always"
	// NeedSometimes is decided by what the request asks for, such as to revoke everything.
	NeedSometimes Need = "sometimes"
)

// A rule is one row of the table of least privilege.
type rule struct {
	roles  []Role
	factor Need
	// tightens says that the operation only takes rights away: it is carried out even when it cannot be
	// recorded, because a revocation must not depend on a disk.
	tightens bool
}

// allows reports whether any of the roles may.
func (r *rule) allows(roles []Role) bool {
	return slices.ContainsFunc(roles, func(role Role) bool { return slices.Contains(r.roles, role) })
}

// rules is the table of least privilege: who may do what. An operation that has no row is open to
// nobody.
func rules() map[string]rule {
	everyone := AllRoles()
	look := rule{roles: everyone, factor: NeedNever}
	inside := rule{roles: []Role{RoleApprover, RoleOperator, RoleSecurityAdmin, RoleOwner}, factor: NeedNever}
	approve := rule{roles: []Role{RoleApprover, RoleOwner}, factor: NeedSometimes}
	deny := rule{roles: []Role{RoleApprover, RoleOwner}, factor: NeedNever, tightens: true}
	operate := rule{roles: []Role{RoleOperator, RoleOwner}, factor: NeedNever}
	stop := rule{roles: []Role{RoleOperator, RoleSecurityAdmin, RoleOwner}, factor: NeedNever, tightens: true}
	secure := rule{roles: []Role{RoleSecurityAdmin, RoleOwner}, factor: NeedNever}
	destroy := rule{roles: []Role{RoleSecurityAdmin, RoleOwner}, factor: NeedAlways}
	own := rule{roles: []Role{RoleOwner}, factor: NeedAlways}
	revoke := stop
	revoke.factor = NeedSometimes
	register, enable := operate, operate
	register.factor, enable.factor = NeedSometimes, NeedAlways
	return map[string]rule{
		"status.get": look, "me.get": look,
		"grants.list": look, "grants.get": look, "grants.request": inside,
		"grants.approve": approve, "grants.deny": deny, "grants.revoke": {roles: []Role{RoleApprover, RoleOperator, RoleSecurityAdmin, RoleOwner}, factor: NeedNever, tightens: true},
		"holds.list": look, "holds.get": inside, "holds.approve": approve, "holds.deny": deny,
		"plans.list": look, "plans.get": look, "plans.request": inside, "plans.approve": approve, "plans.deny": deny, "plans.revoke": stop,
		"revocations.list": look, "revocations.create": revoke, "revocations.lift": destroy,
		"agents.list": look, "agents.get": look, "agents.register": register, "agents.disable": stop, "agents.enable": enable,
		"tools.list": look, "tools.approve": operate, "tools.revoke": stop,
		"sessions.list": inside, "sessions.end": stop,
		"consents.list": inside, "consents.revoke": stop,
		"keys.list": look, "keys.rotate": secure, "keys.emergency": destroy,
		"credentials.list": inside, "credentials.remove": {roles: []Role{RoleSecurityAdmin, RoleOwner}, factor: NeedNever, tightens: true},
		"links.create":          own,
		"recovery_codes.create": own,
		"break_glass.end":       {roles: []Role{RoleSecurityAdmin, RoleOwner}, factor: NeedNever, tightens: true},
	}
}
