package access

import (
	"cmp"
	"fmt"

	"github.com/warder-mcp/warder"
)

// New builds the layer.
func New(cfg Config, deps Deps) (warder.Layer, error) {
	if err := cfg.Validate(); err != nil {
		return warder.Layer{}, fmt.Errorf("access: %w", err)
	}
	if err := deps.fill(); err != nil {
		return warder.Layer{}, err
	}
	around, err := newSurroundings(cfg, &deps)
	if err != nil {
		return warder.Layer{}, fmt.Errorf("access: %w", err)
	}
	cfg.Freshness.Revocation = cmp.Or(cfg.Freshness.Revocation, defaultRevocation)
	cfg.Freshness.StaleRead = cmp.Or(cfg.Freshness.StaleRead, DefaultStaleRead)
	gone := &revoked{deps: deps, cfg: cfg.Freshness}
	every := &everyMessage{deps: deps, around: around, needed: effectsOf(cfg.grantEffects())}
	again := newReassess(every, cmp.Or(cfg.Reassess, defaultReassess))
	risk := newRisk(cfg.Risk, deps, around, every)
	plan := &steps{deps: deps}
	return warder.Layer{
		Name:    "access",
		Connect: []warder.Interceptor{gone},
		Request: []warder.Interceptor{
			gone,
			risk,
			&granted{deps: deps, cfg: cfg.Freshness},
			&revokedGrant{gone},
			plan,
			&standing{needed: every.needed},
			&attributes{around: around},
			every,
			newPurposes(cfg),
			&stepUp{deps: deps},
			newPrompts(cfg.Approval, deps, around),
			newApproved(cfg.Approval, deps, around, gone),
			&spent{deps: deps},
		},
		Response: []warder.Interceptor{gone, again, plan},
		Review:   []warder.Interceptor{gone, &reviewed{risk}},
		Complete: []warder.Recorder{again, plan, risk},
	}, nil
}
