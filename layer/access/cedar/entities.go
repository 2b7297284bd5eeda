package cedar

import (
	"encoding/hex"
	"slices"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

// A subject is a principal or a resource as Cedar sees it, with the ids that a policy's scope can
// name it by: its own and those of everything it is in.
type subject struct {
	entity types.Entity
	server *types.Entity // the server a resource is on; nil for others
	scopes []types.EntityUID
}

// UserID is the id of a principal's Cedar entity: issuer, "|", subject.
func UserID(p *warder.Principal) string { return p.Issuer + "|" + p.Subject }

// principalAttrs is how many attributes a principal has at most.
const principalAttrs = 13

// user builds the entity of a principal.
func (s *set) user(p *warder.Principal) *subject {
	attrs := make(types.RecordMap, principalAttrs)
	attrs["issuer"], attrs["subject"] = types.String(p.Issuer), types.String(p.Subject)
	attrs["actors"], attrs["scopes"], attrs["groups"], attrs["amr"] = texts(p.Actors), texts(p.Scopes), texts(p.Groups), texts(p.AMR)
	attrs["transport"], attrs["bound"] = types.String(p.Transport), types.Boolean(p.Binding != "")
	known := func(name types.String, value string) {
		if value != "" {
			attrs[name] = types.String(value)
		}
	}
	known("tenant", p.Tenant)
	known("client", p.Client)
	known("agent", p.Agent)
	known("acr", p.ACR)
	if !p.AuthTime.IsZero() {
		attrs["auth_time"] = types.NewDatetime(p.AuthTime)
	}
	uid := types.NewEntityUID(typeUser, types.String(UserID(p)))
	groups := make([]types.EntityUID, len(p.Groups))
	for i, g := range p.Groups {
		groups[i] = types.NewEntityUID(typeGroup, types.String(g))
	}
	u := &subject{
		entity: types.Entity{UID: uid, Parents: types.NewEntityUIDSet(groups...), Attributes: types.NewRecord(attrs)},
		scopes: []types.EntityUID{uid},
	}
	for _, g := range groups {
		u.scopes = s.appendGroups(u.scopes, g)
	}
	return u
}

// appendGroups adds a group and all groups it is in.
func (s *set) appendGroups(out []types.EntityUID, group types.EntityUID) []types.EntityUID {
	if slices.Contains(out, group) {
		return out
	}
	out = append(out, group)
	for parent := range s.groups[group].Parents.All() {
		out = s.appendGroups(out, parent)
	}
	return out
}

// thing builds the entity of a resource.
func thing(r access.Resource) *subject {
	if r.Kind == access.KindEndpoint {
		return single(typeEndpoint, r.Name, types.RecordMap{"name": types.String(r.Name)})
	}
	if r.Kind == access.KindServer {
		return serverOf(r.Server)
	}
	server := serverOf(r.Server)
	attrs := types.RecordMap{"server": types.String(r.Server.Name)}
	labels := r.Server.Labels
	if r.Tool != nil {
		labels = slices.Concat(r.Server.Labels, r.Tool.Labels)
	}
	attrs["labels"] = texts(labels)
	typ := typeTool
	switch r.Kind {
	case access.KindTool:
		attrs["name"], attrs["digest"], attrs["effect"] = types.String(r.Name), digest(r.Tool), effect(r.Tool)
	case access.KindPrompt:
		typ = typePrompt
		attrs["name"], attrs["digest"] = types.String(r.Name), digest(r.Tool)
	default:
		typ = typeResource
		attrs["uri"], attrs["template"] = types.String(r.Name), types.Boolean(r.Kind == access.KindTemplate)
	}
	out := single(typ, r.Server.Name+"/"+r.Name, attrs)
	out.entity.Parents = types.NewEntityUIDSet(server.entity.UID)
	out.server = &server.entity
	out.scopes = append(out.scopes, server.entity.UID)
	return out
}

func serverOf(s *warder.Server) *subject {
	return single(typeServer, s.Name, types.RecordMap{
		"name": types.String(s.Name), "labels": texts(s.Labels), "local": types.Boolean(s.Local),
	})
}

func single(typ types.EntityType, id string, attrs types.RecordMap) *subject {
	uid := types.NewEntityUID(typ, types.String(id))
	return &subject{
		entity: types.Entity{UID: uid, Attributes: types.NewRecord(attrs)},
		scopes: []types.EntityUID{uid},
	}
}

func digest(t *warder.Tool) types.String {
	if t == nil {
		return ""
	}
	return types.String(hex.EncodeToString(t.Digest[:]))
}

func effect(t *warder.Tool) types.String {
	if t == nil {
		return types.String(warder.EffectUnknown.String())
	}
	return types.String(t.Effect.String())
}

func texts(list []string) types.Set {
	if len(list) == 0 {
		return types.Set{}
	}
	values := make([]types.Value, len(list))
	for i, s := range list {
		values[i] = types.String(s)
	}
	return types.NewSet(values...)
}

// world finds the few entities that one decision can touch.
type world struct {
	set                 *set
	principal, resource *subject
}

// Get returns an entity; it implements Cedar's entity lookup.
func (w *world) Get(uid types.EntityUID) (types.Entity, bool) {
	switch uid.Type {
	case typeAction:
		e, ok := w.set.words.byUID[uid]
		return e, ok
	case typeGroup:
		e, ok := w.set.groups[uid]
		if !ok { // a group nobody nested: it exists, in nothing
			e = types.Entity{UID: uid}
		}
		return e, true
	}
	switch {
	case uid == w.principal.entity.UID:
		return w.principal.entity, true
	case uid == w.resource.entity.UID:
		return w.resource.entity, true
	case w.resource.server != nil && uid == w.resource.server.UID:
		return *w.resource.server, true
	default:
		return types.Entity{}, false
	}
}
