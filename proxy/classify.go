package proxy

import (
	"bytes"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// classify decides in which revision a message speaks and to which session it belongs. Era is a
// property of the message: one that carries a protocol version of 2026-07-28 or later in _meta is
// stateless, initialize opens a session, everything else needs one.
//
// headerVersion and sessionID are the HTTP headers; a local door passes its only session instead.
func (f *flow) classify(m *warder.Message, headerVersion, sessionID string, own *session) *warder.Error {
	x := f.x
	x.Inbound, x.Request, x.BytesIn = m, m, int64(len(m.Raw))
	if m.IsAnswer() && own == nil && sessionID == "" {
		return &warder.Error{Code: warder.CodeInvalidRequest, Reason: "answer_without_session", Control: "GW-01"}
	}
	version, stated := wire.At(m, m.Meta.Get(wire.MetaVersion)).Text()
	switch {
	case !m.IsAnswer() && (stated || warder.Revision(headerVersion).Modern() && m.Method != wire.MethodInitialize):
		return f.classifyModern(m, version, stated, headerVersion, own)
	case m.Method == wire.MethodInitialize && m.IsCall():
		return f.classifyInitialize(m, own)
	case m.Method == wire.MethodDiscover && sessionID == "" && (own == nil || own.speaks() == ""):
		return missingMeta() // only stateless clients discover
	}
	return f.classifySession(m, sessionID, own)
}

func missingMeta() *warder.Error {
	return &warder.Error{Code: warder.CodeMissingMeta, Reason: "missing_meta", Control: "PRT-01"}
}

// classifyModern reads what a stateless request says of itself.
func (f *flow) classifyModern(m *warder.Message, version string, stated bool, headerVersion string, own *session) *warder.Error {
	x := f.x
	x.Revision = warder.Revision(version)
	if !stated {
		x.Revision = warder.Revision(headerVersion)
	}
	if requested := x.Revision; !requested.Known() || !requested.Modern() {
		x.Revision = warder.Revision20260728 // the refusal speaks the newest revision
		if stated && headerVersion != "" && headerVersion != version {
			return &warder.Error{Code: warder.CodeHeaderMismatch, Reason: "version_mismatch", Control: "PRT-02"}
		}
		return f.g.unsupported(requested)
	}
	if f.local {
		f.sess = own // for cancellation only
	}
	if m.Kind == warder.KindNotification {
		return nil
	}
	caps := m.Meta.Get(wire.MetaCapabilities)
	if !stated || m.Raw[max(caps.Start, 0)] != '{' || !caps.Present() {
		return missingMeta()
	}
	info := wire.At(m, m.Meta.Get(wire.MetaClientInfo))
	x.Client.Name, _ = info.Get("name").Text()
	x.Client.Version, _ = info.Get("version").Text()
	x.Client.Capabilities = m.At(caps)
	request, err := f.g.unheld(m)
	if err != nil {
		return warder.Fail(warder.CodeInternal, "hold_answer", err)
	}
	x.Request = request
	return nil
}

// unsupported tells which revisions are spoken here (2026-07-28, UnsupportedProtocolVersionError).
func (g *Gate) unsupported(requested warder.Revision) *warder.Error {
	data := append([]byte(`{"requested":`), wire.Quote(string(requested))...)
	data = append(data, `,"supported":[`...)
	for _, r := range g.revisions() {
		data = append(comma(data), wire.Quote(string(r))...)
	}
	return &warder.Error{
		Code: warder.CodeUnsupported, Reason: "unsupported_revision", Control: "PRT-01", Data: append(data, "]}"...),
	}
}

// classifyInitialize settles the revision of a new session.
func (f *flow) classifyInitialize(m *warder.Message, own *session) *warder.Error {
	x := f.x
	offered, _ := wire.At(m, m.Params.Get("protocolVersion")).Text()
	revision, err := f.g.floor.Negotiate(warder.Revision(offered))
	x.Revision = revision
	if err != nil {
		x.Revision = warder.Revision20251125
		return f.g.unsupported(warder.Revision(offered))
	}
	if own != nil && own.speaks() != "" {
		return &warder.Error{Code: warder.CodeInvalidRequest, Reason: "already_initialized", Control: "PRT-01"}
	}
	f.sess = own
	info := wire.At(m, m.Params.Get("clientInfo"))
	x.Client.Name, _ = info.Get("name").Text()
	x.Client.Version, _ = info.Get("version").Text()
	return nil
}

// classifySession finds the session of a message.
func (f *flow) classifySession(m *warder.Message, sessionID string, own *session) *warder.Error {
	x := f.x
	s := own
	if s == nil {
		if sessionID == "" {
			return &warder.Error{
				Code: warder.CodeInvalidRequest, Reason: "session_required", Control: "PRT-06",
				Public: "Send initialize first, then the Mcp-Session-Id of its answer.",
			}
		}
		found, ok := f.g.sessions.find(sessionID, x.Endpoint)
		if !ok {
			return &warder.Error{Code: warder.CodeNoSession, Reason: "unknown_session", Control: "PRT-06"}
		}
		s = found
	}
	if s.speaks() == "" {
		return &warder.Error{Code: warder.CodeInvalidRequest, Reason: "not_initialized", Control: "PRT-01"}
	}
	f.use(s)
	if m.IsAnswer() {
		return f.findQuestion(m)
	}
	return nil
}

// use makes the exchange one of a session.
func (f *flow) use(s *session) {
	f.sess = s
	s.mu.Lock()
	defer s.mu.Unlock()
	f.x.Session, f.x.Revision, f.x.Client = s.digest, s.revision, s.client
}

// findQuestion joins an answer with the question it answers. The question stays open until the answer
// has been judged: knowing a session is not owning it.
func (f *flow) findQuestion(m *warder.Message) *warder.Error {
	q, ok := f.sess.question(m.IDBytes())
	if !ok {
		return unasked()
	}
	f.question = q
	f.x.Parent, f.x.Question = q.parent, q.asked
	return nil
}

// unasked refuses an answer that nobody waits for.
func unasked() *warder.Error {
	return &warder.Error{Code: warder.CodeInvalidRequest, Reason: "unasked_answer", Control: "GW-01"}
}

// opening turns a judged initialize into a session, before any server is asked; the door hands its
// id to the client. The part of a group only settles which capabilities the session may declare.
func (f *flow) opening() *warder.Error {
	x := f.x
	if x.Request.Method != wire.MethodInitialize || !x.Request.IsCall() || x.Revision.Modern() {
		return nil
	}
	if f.sess == nil {
		s, err := f.g.sessions.open(x.Principal.Key(), x.Endpoint)
		if err != nil {
			return err
		}
		f.sess = s
	}
	x.Client.Capabilities = bytes.Clone(x.Request.At(x.Request.Params.Get("capabilities")))
	if !f.sess.settle(x) {
		return &warder.Error{Code: warder.CodeInvalidRequest, Reason: "already_initialized", Control: "PRT-01"}
	}
	if f.sess.id == "" {
		f.g.sessions.adopt(f.sess)
	}
	x.Session = f.sess.digest
	return nil
}

// settle fixes what a session is, as judged; false if another initialize was faster. Its owner never
// changes: controls read it without a lock.
func (s *session) settle(x *warder.Exchange) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revision != "" && x.Parent == nil {
		return false
	}
	s.revision = x.Revision
	if s.owner == "" {
		s.owner = x.Principal.Key()
	}
	s.client = warder.ClientInfo{
		Name: strings.Clone(x.Client.Name), Version: strings.Clone(x.Client.Version), Capabilities: x.Client.Capabilities,
	}
	s.capsHash = hashCapabilities(s.client.Capabilities)
	return true
}

// abandon closes the session of an initialize that failed.
func (f *flow) abandon(failure *warder.Error) *warder.Error {
	x := f.x
	if failure == nil || x.Parent != nil || f.sess == nil || x.Request.Method != wire.MethodInitialize || x.Revision.Modern() {
		return failure
	}
	if f.sess.id == "" { // the one session of a pipe stays for another try
		f.sess.mu.Lock()
		f.sess.revision = ""
		f.sess.mu.Unlock()
		return failure
	}
	f.g.sessions.close(f.sess)
	return failure
}
