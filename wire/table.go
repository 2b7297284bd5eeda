package wire

import "github.com/warder-mcp/warder"

// A MethodInfo says what a method is in one revision.
type MethodInfo struct {
	Request bool // asks for an answer; else it is a notification
	Client  bool // the client may send it
	Server  bool // the server may send it
	Input   bool // only as an entry of inputRequests, never as a message (2026-07-28)

	// Capability and Sub name what must have been declared, such as "resources" and "subscribe": by
	// the receiver of a request, by the sender of a notification (elicitation/complete: by the
	// client). Empty when nothing need be.
	Capability, Sub string
}

// From reports whether a message with this method may come from that side.
func (i MethodInfo) From(d warder.Direction) bool {
	if d == warder.FromServer {
		return i.Server
	}
	return i.Client
}

// Declared reports whether a capabilities object holds what the method needs.
func (i MethodInfo) Declared(capabilities Value) bool {
	if i.Capability == "" {
		return true
	}
	v := capabilities.Get(i.Capability)
	if i.Sub != "" {
		v = v.Get(i.Sub)
	}
	return v.Kind() == '{' || v.Kind() == 't'
}

// Method says what a method is in a revision; false if the revision does not have it. The facts are
// those of the published schemas, and for 2026-07-28 also those of the tasks extension.
func Method(rev warder.Revision, method string) (MethodInfo, bool) {
	if !rev.Known() {
		return MethodInfo{}, false
	}
	for _, look := range [...]func(warder.Revision, string) (MethodInfo, bool){
		clientRequest, serverRequest, taskMethod, clientNotification, serverNotification,
	} {
		if i, ok := look(rev, method); ok {
			return i, true
		}
	}
	return MethodInfo{}, false
}

// clientRequest knows what clients ask servers.
func clientRequest(rev warder.Revision, method string) (MethodInfo, bool) {
	i, in := MethodInfo{Request: true, Client: true}, true
	switch method {
	case MethodToolsList, MethodToolsCall:
		i.Capability = "tools"
	case MethodPromptsList, MethodPromptsGet:
		i.Capability = "prompts"
	case MethodResourcesList, MethodResourceTemplates, MethodResourcesRead:
		i.Capability = "resources"
	case MethodComplete:
		if rev > warder.Revision20241105 {
			i.Capability = "completions"
		}
	case MethodInitialize:
		in = !rev.Modern()
	case MethodPing:
		i.Server, in = true, !rev.Modern()
	case MethodSetLevel:
		i.Capability, in = "logging", !rev.Modern()
	case MethodResourcesSubscribe, MethodResourcesUnsubscribe:
		i.Capability, i.Sub, in = "resources", "subscribe", !rev.Modern()
	case MethodDiscover, MethodListen:
		in = rev.Modern()
	default:
		in = false
	}
	return i, in
}

// serverRequest knows what servers ask clients: by message in the stateful revisions, as an entry of
// inputRequests in the stateless ones.
func serverRequest(rev warder.Revision, method string) (MethodInfo, bool) {
	i, in := MethodInfo{Request: true, Server: !rev.Modern(), Input: rev.Modern()}, true
	switch method {
	case MethodSampling:
		i.Capability = "sampling"
	case MethodRootsList:
		i.Capability = "roots"
	case MethodElicit:
		i.Capability, in = "elicitation", rev >= warder.Revision20250618
	default:
		in = false
	}
	return i, in
}

// taskMethod knows tasks: both sides' in 2025-11-25, the server's alone in the extension.
func taskMethod(rev warder.Revision, method string) (MethodInfo, bool) {
	if rev.Modern() {
		i := MethodInfo{Request: true, Client: true, Capability: "extensions", Sub: ExtensionTasks}
		switch method {
		case MethodTasksGet, MethodTasksUpdate, MethodTasksCancel:
			return i, true
		case NotifyTasks:
			i.Request, i.Client, i.Server = false, false, true
			return i, true
		}
		return MethodInfo{}, false
	}
	i, in := MethodInfo{Request: true, Client: true, Server: true, Capability: "tasks"}, rev == warder.Revision20251125
	switch method {
	case MethodTasksGet, MethodTasksResult:
	case MethodTasksList:
		i.Sub = "list"
	case MethodTasksCancel:
		i.Sub = "cancel"
	case NotifyTaskStatus:
		i.Request = false
	default:
		in = false
	}
	return i, in
}

// clientNotification knows what clients tell servers, and what both tell each other.
func clientNotification(rev warder.Revision, method string) (MethodInfo, bool) {
	i, in := MethodInfo{Client: true}, true
	switch method {
	case NotifyCancelled:
		i.Server = true
	case NotifyProgress:
		i.Client, i.Server = !rev.Modern(), true
	case NotifyInitialized:
		in = !rev.Modern()
	case NotifyRootsChanged:
		i.Capability, i.Sub, in = "roots", "listChanged", !rev.Modern()
	default:
		in = false
	}
	return i, in
}

// serverNotification knows what servers tell clients.
func serverNotification(rev warder.Revision, method string) (MethodInfo, bool) {
	i, in := MethodInfo{Server: true}, true
	switch method {
	case NotifyMessage:
		i.Capability = "logging"
	case NotifyToolsChanged:
		i.Capability, i.Sub = "tools", "listChanged"
	case NotifyPromptsChanged:
		i.Capability, i.Sub = "prompts", "listChanged"
	case NotifyResourcesChanged:
		i.Capability, i.Sub = "resources", "listChanged"
	case NotifyResourceUpdated:
		i.Capability, i.Sub = "resources", "subscribe"
	case NotifyElicitComplete:
		i.Capability, i.Sub, in = "elicitation", "url", rev == warder.Revision20251125
	case NotifySubscribed:
		in = rev.Modern()
	default:
		in = false
	}
	return i, in
}
