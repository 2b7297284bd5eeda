package proxy

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Separator stands between a server's name and a tool's or prompt's name in a group.
const Separator = "__"

// route finds the server of a group that a message is for and gives the message the name the server
// knows. Messages for all servers leave f.back nil.
func (f *flow) route(ctx context.Context) *warder.Error {
	if f.back != nil {
		return nil
	}
	m := f.x.Request
	if m.IsAnswer() {
		f.back = f.end.Backends[0] // the question itself knows where its answer goes
		if p := f.question.parent; p != nil && p.Server != nil {
			f.back = f.end.backend(p.Server.Name)
		}
		f.x.Server = f.back.Server
		return nil
	}
	switch m.Method {
	case wire.MethodPing, wire.NotifyCancelled:
		f.aim(f.end.Backends[0]) // answered here, but judged like everything else
		return nil
	case wire.MethodToolsCall, wire.MethodPromptsGet:
		return f.routeName()
	case wire.MethodComplete:
		if strings.Contains(m.Target, Separator) && !strings.Contains(m.Target, "://") {
			return f.routeName()
		}
		return f.routeURI(ctx)
	case wire.MethodResourcesRead, wire.MethodResourcesSubscribe, wire.MethodResourcesUnsubscribe:
		return f.routeURI(ctx)
	}
	if strings.HasPrefix(m.Method, "tasks/") && m.Target != "" {
		if name, ok := f.g.routes.find(f.end.Name, "task:"+m.Target); ok {
			f.aim(f.end.backend(name))
			return nil
		}
		return nowhere()
	}
	return nil
}

// nowhere is the answer for everything a group does not have. It is the answer of MST-01 for what is
// not there or not for this principal, so that the two cannot be told apart.
func nowhere() *warder.Error {
	return &warder.Error{Code: warder.CodeNotFound, Reason: "not_found", Control: "MST-01"}
}

func (e *Endpoint) backend(name string) *Backend {
	for _, b := range e.Backends {
		if b.Server.Name == name {
			return b
		}
	}
	return nil
}

func (f *flow) aim(b *Backend) {
	f.back = b
	f.x.Server = b.Server
}

// routeName splits "server__name".
func (f *flow) routeName() *warder.Error {
	m := f.x.Request
	server, name, ok := strings.Cut(m.Target, Separator)
	b := f.end.backend(server)
	if !ok || b == nil {
		return nowhere()
	}
	bare, err := wire.WithTarget(m, name, f.g.limits)
	if err != nil {
		return asError(context.Background(), err)
	}
	f.x.Request = bare
	f.aim(b)
	return nil
}

// routeURI finds the server that listed a resource. A URI that nobody listed yet makes the group
// list its servers' resources and templates once, as the client: what it may not list is not there
// for it, and each list is an exchange that is judged and recorded.
func (f *flow) routeURI(ctx context.Context) *warder.Error {
	uri := f.x.Request.Target
	if name, ok := f.g.routes.find(f.end.Name, uri); ok && f.end.backend(name) != nil {
		f.aim(f.end.backend(name))
		return nil
	}
	for _, method := range []string{wire.MethodResourcesList, wire.MethodResourceTemplates} {
		m, err := f.listMessage(method)
		if err != nil {
			return asError(ctx, err)
		}
		for _, p := range f.parts(ctx, m) {
			for _, answer := range p.answers {
				for _, item := range wire.At(answer, answer.Result.Get(wire.ListMember(method))).Elements() {
					if offers(item.Raw(), uri) {
						f.g.routes.add(f.end.Name, uri, p.back.Server.Name)
						f.aim(p.back)
						return nil
					}
				}
			}
		}
	}
	return nowhere()
}

// listMessage is a list request of Warder's own that speaks for the client of this exchange.
func (f *flow) listMessage(method string) (*warder.Message, error) {
	id := strconv.AppendQuote(nil, "warder-route-"+strconv.FormatUint(f.g.routes.nextID(), 10))
	m, err := wire.Decode(wire.Request(id, method, []byte("{}")), f.g.limits)
	if err != nil || !f.x.Revision.Modern() {
		return m, err
	}
	caps := f.x.Client.Capabilities
	if len(caps) == 0 {
		caps = []byte("{}")
	}
	meta := wire.ModernMeta{Version: f.x.Revision, ClientInfo: []byte(clientInfo(f.x.Client)), Capabilities: caps}
	return wire.RequestToModern(m, meta, f.g.limits)
}

// offers reports whether a listed resource or template can be this URI.
func offers(item []byte, uri string) bool {
	v := wire.Parse(item)
	if v.Get("uri").Equals(uri) {
		return true
	}
	template, ok := v.Get("uriTemplate").Text()
	if !ok {
		return false
	}
	head, _, _ := strings.Cut(template, "{")
	return head != "" && strings.HasPrefix(uri, head)
}

// fanOut sends a message to every server of the group and joins the answers. Each part is an
// exchange of its own, judged and recorded like any other.
func (f *flow) fanOut(ctx context.Context) *warder.Error {
	m := f.x.Request
	if m.Method == wire.MethodListen {
		return f.fanListen(ctx)
	}
	parts := f.parts(ctx, m)
	if !m.IsCall() {
		return firstError(parts)
	}
	switch m.Method {
	case wire.MethodInitialize, wire.MethodDiscover:
		return f.joinHello(ctx, parts)
	case wire.MethodToolsList, wire.MethodPromptsList, wire.MethodResourcesList, wire.MethodResourceTemplates:
		return f.joinList(ctx, parts, wire.ListMember(m.Method))
	case wire.MethodSetLevel:
		if err := firstError(parts); err != nil {
			return err
		}
		return f.sendRaw(ctx, wire.Response(m.IDBytes(), []byte("{}")))
	default:
		return &warder.Error{Code: warder.CodeUnknownMethod, Reason: "not_for_a_group"}
	}
}

// A part is the answer of one server to a fanned-out message.
type part struct {
	back    *Backend
	answers []*warder.Message
	err     *warder.Error
}

// parts carries a message to every server at once.
func (f *flow) parts(ctx context.Context, m *warder.Message) []part {
	parts := make([]part, len(f.end.Backends))
	var work sync.WaitGroup
	for i, b := range f.end.Backends {
		work.Go(func() { parts[i] = f.part(ctx, b, m) })
	}
	work.Wait()
	return parts
}

// part carries a message to one server, and for lists the requests for the further pages.
func (f *flow) part(ctx context.Context, b *Backend, first *warder.Message) part {
	p := part{back: b}
	m := first
	var size int64
	for range maxListPages {
		child := f.child(b, m)
		child.send = func(ctx context.Context, m *warder.Message) error {
			if m.Kind == warder.KindRequest { // nobody would answer it, and its server would wait
				child.refuseQuestion(ctx, m.IDBytes(), warder.Fail(warder.CodeDenied, "question_in_a_group", nil))
			}
			if m.IsAnswer() {
				p.answers = append(p.answers, m)
				size += int64(len(m.Raw))
			}
			return nil
		}
		p.err = child.carry(ctx)
		if p.err == nil && size > f.g.limits.Bytes { // all pages become one message
			p.answers, p.err = nil, warder.Fail(warder.CodeUpstreamFailed, "list_too_large", nil)
		}
		child.finish(ctx, p.err)
		if p.err != nil || len(p.answers) == 0 {
			return p
		}
		last := p.answers[len(p.answers)-1]
		cursor := last.At(last.Result.Get("nextCursor"))
		if last.Kind != warder.KindResult || cursor == nil {
			return p
		}
		next, err := f.nextPage(first, cursor)
		if err != nil {
			p.err = asError(ctx, err)
			return p
		}
		m = next
	}
	return p
}

// nextPage is the request for the page after cursor.
func (f *flow) nextPage(m *warder.Message, cursor []byte) (*warder.Message, error) {
	if m.ParamsSpan.Present() {
		return wire.Splice(m, f.g.limits, wire.SetMember(m, m.ParamsSpan, m.Params, "cursor", cursor))
	}
	params := append(append([]byte(`{"cursor":`), cursor...), '}')
	return wire.Decode(wire.Request(m.IDBytes(), m.Method, params), f.g.limits)
}

// child makes the exchange of one server's part.
func (f *flow) child(b *Backend, m *warder.Message) *flow {
	c := f.g.begin(f.x.Door, f.x.Endpoint, f.x.Conn)
	c.adopt(f)
	c.aim(b)
	c.x.Inbound, c.x.Request = f.x.Inbound, m // headers are those of the message that came in
	return c
}

// adopt takes over what another exchange of the same connection established.
func (f *flow) adopt(parent *flow) {
	p := parent.x
	f.sess = parent.sess
	f.local = parent.local
	f.x.Parent, f.x.Revision, f.x.Session, f.x.Principal = p, p.Revision, p.Session, p.Principal
	f.x.Trace, f.x.Client, f.x.From = p.Trace, p.Client, p.From
	f.x.Trail = append(f.x.Trail, p.Trail...)
}

func firstError(parts []part) *warder.Error {
	for _, p := range parts {
		if p.err != nil {
			return p.err
		}
	}
	return nil
}

// sendRaw delivers an answer that Warder composed from judged parts.
func (f *flow) sendRaw(ctx context.Context, raw []byte) *warder.Error {
	m, err := wire.Decode(raw, f.g.limits)
	if err != nil {
		return asError(ctx, err)
	}
	f.x.BytesOut += int64(len(raw))
	if err := f.send(ctx, m); err != nil {
		return asError(ctx, err)
	}
	f.x.Messages++
	return nil
}

// joinList merges the lists of the servers; one that fails costs only its own entries.
func (f *flow) joinList(ctx context.Context, parts []part, key string) *warder.Error {
	items := f.fit(parts, key)
	if !slices.ContainsFunc(parts, func(p part) bool { return p.err == nil }) {
		return firstError(parts)
	}
	result := append([]byte(`{"`+key+`":[`), bytes.Join(items, []byte{','})...)
	result = append(result, ']')
	if f.x.Revision.Modern() {
		result = append(result, `,"resultType":"complete","ttlMs":0,"cacheScope":"private"`...)
	}
	return f.sendRaw(ctx, wire.Response(f.x.Request.IDBytes(), append(result, '}')))
}

// fit returns the entries of each server that has any. When all together are more than a message may be,
// the servers with the longest lists are left out: their flood does not cost the others their entries.
func (f *flow) fit(parts []part, key string) [][]byte {
	const envelope = 4096 // what stands around the entries
	lists := make([][]byte, len(parts))
	total := int64(envelope)
	for i, p := range parts {
		list := []byte("[") // for comma; dropped below
		for _, answer := range p.answers {
			for _, item := range wire.At(answer, answer.Result.Get(key)).Elements() {
				list = append(comma(list), f.named(p.back, key, item)...)
			}
		}
		lists[i] = list[1:]
		total += int64(len(list))
	}
	for total > f.g.limits.Bytes {
		longest := 0
		for i := range lists {
			if len(lists[i]) > len(lists[longest]) {
				longest = i
			}
		}
		if len(lists[longest]) == 0 {
			break
		}
		total -= int64(len(lists[longest]))
		lists[longest] = nil
		parts[longest].err = warder.Fail(warder.CodeUpstreamFailed, "list_too_large", nil)
	}
	return slices.DeleteFunc(lists, func(list []byte) bool { return len(list) == 0 })
}

// named prefixes a tool or prompt with its server and remembers where a resource lives.
func (f *flow) named(b *Backend, key string, item wire.Value) []byte {
	if key == "resources" {
		if uri, ok := item.Get("uri").Text(); ok {
			f.g.routes.add(f.end.Name, uri, b.Server.Name)
		}
		return item.Raw()
	}
	name := item.Get("name")
	text, ok := name.Text()
	if !ok || key == "resourceTemplates" {
		return item.Raw()
	}
	raw, base := item.Raw(), item.Span().Start
	out := append([]byte(nil), raw[:name.Span().Start-base]...)
	out = wire.AppendQuote(out, b.Server.Name+Separator+text)
	return append(out, raw[name.Span().End-base:]...)
}

// joinHello introduces the group: the union of what its servers can do.
func (f *flow) joinHello(ctx context.Context, parts []part) *warder.Error {
	var hellos []wire.Hello
	var instructions strings.Builder
	for _, p := range parts {
		if len(p.answers) != 1 || p.answers[0].Kind != warder.KindResult {
			continue // a server that is down is missing, the others serve
		}
		parse := wire.ParseInitializeResult
		if f.x.Revision.Modern() {
			parse = wire.ParseDiscoverResult
		}
		h, err := parse(p.answers[0])
		if err != nil {
			continue
		}
		hellos = append(hellos, h)
		if h.Instructions != "" {
			instructions.WriteString("# " + p.back.Server.Name + "\n" + h.Instructions + "\n")
		}
	}
	if len(hellos) == 0 {
		return firstError(parts)
	}
	joined := wire.Hello{
		Revision: f.x.Revision, ServerInfo: []byte(`{"name":` + string(wire.Quote(f.end.Name)) + `,"version":"1"}`),
		Capabilities: joinCapabilities(hellos), Instructions: strings.TrimSpace(instructions.String()),
	}
	id := f.x.Request.IDBytes()
	if f.x.Revision.Modern() {
		return f.sendRaw(ctx, wire.DiscoverResult(id, joined, f.g.revisions()))
	}
	return f.sendRaw(ctx, wire.InitializeResult(id, joined, f.x.Revision))
}

// joinCapabilities is the union of what a group can pass on.
func joinCapabilities(hellos []wire.Hello) []byte {
	b := []byte("{")
	for _, name := range []string{"completions", "logging", "prompts", "resources", "tools"} {
		flags, found := []byte("{"), false
		for _, flag := range []string{"listChanged", "subscribe"} {
			on := false
			for _, h := range hellos {
				v := wire.Parse(h.Capabilities).Get(name)
				found = found || v.Exists()
				set, ok := v.Get(flag).Bool()
				on = on || ok && set
			}
			if on {
				flags = append(comma(flags), `"`+flag+`":true`...)
			}
		}
		if found {
			b = append(comma(b), `"`+name+`":`...)
			b = append(append(b, flags...), '}')
		}
	}
	return append(b, '}')
}

// fanListen joins the streams of all servers. Each is an exchange of its own; when none is allowed or
// none can be opened, the client is told why. The first that is acknowledged acknowledges the group.
func (f *flow) fanListen(ctx context.Context) *warder.Error {
	var mu sync.Mutex
	var work sync.WaitGroup
	acked := false
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := make([]part, len(f.end.Backends))
	for i, b := range f.end.Backends {
		child := f.child(b, f.x.Request)
		child.judged = f.judged
		child.send = func(ctx context.Context, m *warder.Message) error {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case m.IsAnswer():
				return nil // the stream of the group ends with its last part
			case m.Method != wire.NotifySubscribed:
				return f.send(ctx, m)
			case acked:
				return nil
			}
			acked = true
			want := parseFilter(wire.At(f.x.Request, f.x.Request.Params.Get("notifications")))
			if err := f.sendRaw(ctx, acknowledged(f.x.Request.IDBytes(), want)); err != nil {
				return err
			}
			return nil
		}
		work.Go(func() {
			parts[i].err = child.carry(ctx)
			child.finish(ctx, parts[i].err)
		})
	}
	work.Wait()
	if ctx.Err() != nil {
		return asError(ctx, context.Cause(ctx))
	}
	return firstError(parts)
}

// List reads every page of a list of the exchange's server, for controls that must know the current
// definitions. The items are raw JSON objects.
func (g *Gate) List(ctx context.Context, x *warder.Exchange, method string) ([][]byte, error) {
	f := &flow{g: g, x: x, end: g.endpoints[x.Endpoint]}
	if f.end == nil || x.Server == nil {
		return nil, warder.Fail(warder.CodeInternal, "no_server", nil)
	}
	if x.Session != "" {
		f.sess = g.sessions.named(x.Session)
	}
	return g.list(ctx, f, f.end.backend(x.Server.Name), method)
}

// routes remembers which server of a group listed which resource, bounded per gate.
type routes struct {
	ids atomic.Uint64
	mu  sync.Mutex
	m   map[[2]string]string
}

// maxRoutes bounds the resources remembered; beyond it the table starts anew.
const maxRoutes = 65_536

// maxRoute is the longest URI remembered, in bytes.
const maxRoute = 1024

func newRoutes() *routes { return &routes{m: make(map[[2]string]string)} }

// nextID returns a JSON-RPC id for requests of Warder's own.
func (r *routes) nextID() uint64 { return r.ids.Add(1) }

func (r *routes) add(endpoint, uri, server string) {
	if len(uri) > maxRoute {
		return // found by listing again; the table holds what servers choose
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.m[[2]string{endpoint, uri}]; known {
		return // the server that has it keeps it: listing a URI of another does not take it over
	}
	if len(r.m) >= maxRoutes {
		clear(r.m)
	}
	r.m[[2]string{endpoint, uri}] = server
}

func (r *routes) find(endpoint, uri string) (server string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	server, ok = r.m[[2]string{endpoint, uri}]
	return server, ok
}
