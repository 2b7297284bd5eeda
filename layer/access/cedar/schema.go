package cedar

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
)

//go:embed warder.cedarschema
var schemaText string

// Schema returns the published schema in Cedar's schema syntax.
func Schema() string { return schemaText }

// Names of the schema.
const (
	typeUser     types.EntityType = "Warder::User"
	typeGroup    types.EntityType = "Warder::Group"
	typeEndpoint types.EntityType = "Warder::Endpoint"
	typeServer   types.EntityType = "Warder::Server"
	typeTool     types.EntityType = "Warder::Tool"
	typePrompt   types.EntityType = "Warder::Prompt"
	typeResource types.EntityType = "Warder::Resource"
	typeAction   types.EntityType = "Warder::Action"

	attrArguments types.String = "arguments"
	attrFindings  types.String = "findings"
)

// vocabulary is the schema in the forms that loading and deciding need.
type vocabulary struct {
	schema  *resolved.Schema
	actions map[string]action                // by method
	byUID   map[types.EntityUID]types.Entity // action entities, groups included
	masks   map[types.EntityUID]uint64       // which actions an action or group stands for
}

// An action is one method; its bit stands for it in a policy's mask.
type action struct {
	uid types.EntityUID
	bit uint64
}

func newVocabulary() (*vocabulary, error) {
	var s schema.Schema
	s.SetFilename("warder.cedarschema")
	if err := s.UnmarshalCedar([]byte(schemaText)); err != nil {
		return nil, fmt.Errorf("parse schema: %w", err)
	}
	r, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("resolve schema: %w", err)
	}
	v := &vocabulary{
		schema:  r,
		actions: map[string]action{},
		byUID:   map[types.EntityUID]types.Entity{},
		masks:   map[types.EntityUID]uint64{},
	}
	uids := make([]types.EntityUID, 0, len(r.Actions))
	for uid, a := range r.Actions {
		uids = append(uids, uid)
		v.byUID[uid] = a.Entity
	}
	slices.SortFunc(uids, func(a, b types.EntityUID) int { return strings.Compare(string(a.ID), string(b.ID)) })
	if len(uids) > 64 {
		return nil, fmt.Errorf("schema has %d actions, want at most 64", len(uids))
	}
	for i, uid := range uids {
		bit := uint64(1) << i
		v.masks[uid] |= bit
		for group := range r.Actions[uid].Entity.Parents.All() { // groups are one level deep
			v.masks[group] |= bit
		}
		if r.Actions[uid].AppliesTo != nil {
			v.actions[string(uid.ID)] = action{uid: uid, bit: bit}
		}
	}
	return v, nil
}

// narrowed returns the schema as one policy meets it: with the members of context.arguments that the
// policy names, and only the actions of its scope in use, which makes checking many policies quick.
func (v *vocabulary) narrowed(args resolved.RecordType, mask uint64) *resolved.Schema {
	out := *v.schema
	out.Actions = make(map[types.EntityUID]resolved.Action, len(v.schema.Actions))
	for uid, a := range v.schema.Actions {
		if a.AppliesTo != nil {
			a.AppliesTo = narrowedTo(a.AppliesTo, args, v.masks[uid]&mask != 0)
		}
		out.Actions[uid] = a
	}
	return &out
}

func narrowedTo(applies *resolved.AppliesTo, args resolved.RecordType, used bool) *resolved.AppliesTo {
	if !used {
		return nil
	}
	attr, has := applies.Context[attrArguments]
	if !has || len(args) == 0 {
		return applies
	}
	out := *applies
	out.Context = maps.Clone(applies.Context)
	attr.Type = args
	out.Context[attrArguments] = attr
	return &out
}
