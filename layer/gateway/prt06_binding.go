package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Tasks configures how tasks are bound to their owners.
type Tasks struct {
	Keep time.Duration `yaml:"keep"` // how long a task that is not used stays bound; default 24h
	Max  int           `yaml:"max"`  // tasks remembered at one time; above, the one used longest ago is unreachable; default 16384
}

func defaultTasks() Tasks { return Tasks{Keep: 24 * time.Hour, Max: 1 << 14} }

// binding makes sessions and tasks useless to anyone but the caller they were made for. Possession
// of an id proves nothing.
// Control PRT-06; MCP 2026-07-28 "Security best practices" (state handle hijacking, session
// hijacking); MCP 2025-11-25 tasks ("must bind tasks to the authorization context").
type binding struct {
	hasher
	clock
	sessions Sessions
	keep     int64
	tasks    *table[uint64] // task → caller
	limits   wire.Limits
}

func newBinding(cfg Tasks, deps Deps) (*binding, error) {
	if cfg.Keep == 0 {
		cfg.Keep = defaultTasks().Keep
	}
	if cfg.Max == 0 {
		cfg.Max = defaultTasks().Max
	}
	if cfg.Keep < time.Second || cfg.Max < ways || cfg.Max > 1<<22 {
		return nil, errors.New("gateway.tasks: keep must be at least 1s, max from 8 to 4194304")
	}
	return &binding{newHasher(), newClock(deps.Now), deps.Sessions, int64(cfg.Keep), newTable[uint64](cfg.Max, false), deps.Limits}, nil
}

// ownRequests is PRT-06 in phase Request.
type ownRequests struct{ *binding }

// ownResponses is PRT-06 in phase Response.
type ownResponses struct{ *binding }

var (
	_ warder.Interceptor = ownRequests{}
	_ warder.Interceptor = ownResponses{}
)

// Control returns "PRT-06".
func (*binding) Control() warder.ControlID { return "PRT-06" }

// Intercept refuses another caller's session and another caller's task. Both answers are those for
// something that does not exist.
func (b ownRequests) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Principal == nil {
		return warder.Decision{}, errNoPrincipal
	}
	if x.Session != "" {
		owner, ok := b.sessions.SessionOwner(x.Session)
		if !ok {
			return warder.Refuse(warder.CodeNoSession, "session_unknown", "session has no owner"), nil
		}
		if !isKey(owner, x.Principal) {
			return warder.Refuse(warder.CodeNoSession, "session_of_another", "session belongs to another caller"), nil
		}
	}
	switch x.Request.Method {
	case wire.MethodTasksGet, wire.MethodTasksResult, wire.MethodTasksCancel, wire.MethodTasksUpdate:
		if !b.owns(x, x.Request.Target) {
			return warder.Refuse(warder.CodeNotFound, "task_not_found", "task "+quote(x.Request.Target)), nil
		}
	}
	return passed()
}

// isKey reports whether key is p.Key(), without building the latter.
func isKey(key string, p *warder.Principal) bool {
	for i, part := range [...]string{p.Tenant, p.Issuer, p.Subject, p.Client, p.Agent} {
		if i > 0 {
			rest, ok := strings.CutPrefix(key, "\x1f")
			if !ok {
				return false
			}
			key = rest
		}
		rest, ok := strings.CutPrefix(key, part)
		if !ok {
			return false
		}
		key = rest
	}
	return key == ""
}

func (b *binding) taskKey(x *warder.Exchange, id string) uint64 {
	return b.add(b.add(0, serverName(x)), id)
}

// owns reports whether the task is bound to the caller, and keeps the binding if it is.
func (b *binding) owns(x *warder.Exchange, id string) bool {
	now := b.since()
	e, mu := b.tasks.lock(b.taskKey(x, id), now, false)
	defer mu.Unlock()
	if e == nil || e.value != nonzero(b.caller(0, x.Principal)) {
		return false
	}
	e.until = now + b.keep
	return true
}

// bind binds a new task to the caller; false if it belongs to another.
func (b *binding) bind(x *warder.Exchange, id string) bool {
	now, caller := b.since(), nonzero(b.caller(0, x.Principal))
	e, mu := b.tasks.lock(b.taskKey(x, id), now, true)
	defer mu.Unlock()
	if e.value != 0 && e.value != caller {
		return false
	}
	e.value, e.until = caller, now+b.keep
	return true
}

// Intercept binds the task that a result starts, keeps the tasks of others out of lists, and drops
// what servers tell about them.
func (b ownResponses) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	switch {
	case m.Kind == warder.KindNotification:
		if m.Method != wire.NotifyTaskStatus && m.Method != wire.NotifyTasks {
			return passed()
		}
		if id, ok := wire.At(m, m.Params.Get("taskId")).Text(); !ok || x.Principal == nil || !b.owns(x, id) {
			return warder.Refuse(warder.CodeInvalidParams, "task_of_another", "notification about a task"), nil
		}
		return passed()
	case m.Kind != warder.KindResult:
		return passed()
	case x.Method() == wire.MethodTasksList:
		return b.list(x)
	case starts(x.Method()):
		return b.started(x)
	default:
		return passed()
	}
}

// starts reports whether answers to a method may start a task.
func starts(method string) bool {
	switch method {
	case wire.MethodToolsCall, wire.MethodPromptsGet, wire.MethodResourcesRead, wire.MethodSampling, wire.MethodElicit:
		return true
	default:
		return false
	}
}

// started binds the task of a result: result.task.taskId in 2025-11-25, result.taskId with
// resultType "task" in the extension.
func (b ownResponses) started(x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	task := wire.At(m, m.Result.Get("task")).Get("taskId")
	if !task.Exists() && wire.At(m, m.Result.Get("resultType")).Equals(wire.ResultTask) {
		task = wire.At(m, m.Result.Get("taskId"))
	}
	if !task.Exists() {
		return passed()
	}
	if x.Principal == nil {
		return warder.Decision{}, errNoPrincipal
	}
	id, ok := task.Text()
	if !ok || id == "" || len(id) > maxTaskID {
		return warder.Refuse(warder.CodeUpstreamFailed, "task_id_malformed", "taskId"), nil
	}
	if !b.bind(x, id) {
		return warder.Refuse(warder.CodeUpstreamFailed, "task_of_another", "the server names a task of another caller"), nil
	}
	return passed()
}

// maxTaskID is the longest task id, in bytes.
const maxTaskID = 1024

// list takes the tasks of others out of a tasks/list result.
func (b ownResponses) list(x *warder.Exchange) (warder.Decision, error) {
	if x.Principal == nil {
		return warder.Decision{}, errNoPrincipal
	}
	m := x.Response
	list := wire.At(m, m.Result.Get("tasks"))
	cut, edit := keep(list, func(task wire.Value) bool {
		id, ok := task.Get("taskId").Text()
		return ok && b.owns(x, id)
	})
	if cut == 0 {
		return passed()
	}
	if err := rewriteResponse(x, b.limits, []wire.Edit{edit}); err != nil {
		return warder.Decision{}, err
	}
	return passed()
}

// keep returns the edit that leaves only some elements of an array, and how many it cuts. Each
// element is asked about once.
func keep(list wire.Value, wanted func(wire.Value) bool) (cut int, edit wire.Edit) {
	var kept []wire.Value
	size := 2
	for _, v := range list.Elements() {
		if !wanted(v) {
			cut++
			continue
		}
		kept = append(kept, v)
		size += len(v.Raw()) + 1
	}
	if cut == 0 {
		return 0, wire.Edit{}
	}
	out := append(make([]byte, 0, size), '[')
	for i, v := range kept {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, v.Raw()...)
	}
	return cut, wire.Edit{At: list.Span(), New: append(out, ']')}
}
