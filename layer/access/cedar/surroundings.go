package cedar

import (
	"github.com/cedar-policy/cedar-go/types"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

// useSurroundings are the members of context that say where, when, on what and for what a call is made
// (control JIT-02).
const useSurroundings = useMessage &^ (useArguments | useFindings)

// surroundings adds what the slice's policies name. What is not known is left out, so that a policy which
// names it fails.
func (sl *slice) surroundings(m types.RecordMap, c *access.Context) {
	text := func(use uses, name types.String, value string) {
		if sl.uses&use != 0 && value != "" {
			m[name] = types.String(value)
		}
	}
	text(useZone, "zone", c.Zone)
	text(useCountry, "country", c.Country)
	text(useWeekday, "weekday", c.Weekday)
	text(usePosture, "posture", c.Posture)
	text(usePurpose, "purpose", c.Purpose)
	known := c.Weekday != "" // somebody looked at the surroundings
	if sl.uses&useHours != 0 && known {
		m["hours"] = texts(c.Hours)
	}
	if sl.uses&useHour != 0 && known {
		m["hour"] = types.Long(c.Hour)
	}
	if sl.uses&useRisk != 0 && known {
		m["risk"] = types.Long(c.Risk)
	}
	if sl.uses&useTrust != 0 && known {
		m["trust"] = types.Long(c.Trust)
	}
	if sl.uses&useGrant != 0 && c.Grant != nil {
		m["grant"] = grant(c.Grant)
	}
	if sl.uses&useAgent != 0 && c.Agent != nil {
		m["agent"] = types.NewRecord(types.RecordMap{
			"name": types.String(c.Agent.Name), "owner": types.String(c.Agent.Owner), "roles": texts(c.Agent.Roles),
		})
	}
}

func grant(g *warder.Grant) types.Record {
	return types.NewRecord(types.RecordMap{
		"id": types.String(g.ID), "purpose": types.String(g.Purpose), "not_after": types.NewDatetime(g.NotAfter),
		"plan": types.String(g.Plan), "step": types.Long(g.Step),
	})
}
