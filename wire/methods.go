package wire

// Requests of all revisions.
const (
	MethodInitialize           = "initialize"
	MethodDiscover             = "server/discover"
	MethodPing                 = "ping"
	MethodToolsList            = "tools/list"
	MethodToolsCall            = "tools/call"
	MethodPromptsList          = "prompts/list"
	MethodPromptsGet           = "prompts/get"
	MethodResourcesList        = "resources/list"
	MethodResourceTemplates    = "resources/templates/list"
	MethodResourcesRead        = "resources/read"
	MethodResourcesSubscribe   = "resources/subscribe"
	MethodResourcesUnsubscribe = "resources/unsubscribe"
	MethodComplete             = "completion/complete"
	MethodSetLevel             = "logging/setLevel"
	MethodListen               = "subscriptions/listen"
	MethodSampling             = "sampling/createMessage"
	MethodElicit               = "elicitation/create"
	MethodRootsList            = "roots/list"
	MethodTasksGet             = "tasks/get"
	MethodTasksList            = "tasks/list"
	MethodTasksResult          = "tasks/result"
	MethodTasksCancel          = "tasks/cancel"
	MethodTasksUpdate          = "tasks/update"
)

// Notifications of all revisions.
const (
	NotifyInitialized      = "notifications/initialized"
	NotifyCancelled        = "notifications/cancelled"
	NotifyProgress         = "notifications/progress"
	NotifyMessage          = "notifications/message"
	NotifyToolsChanged     = "notifications/tools/list_changed"
	NotifyPromptsChanged   = "notifications/prompts/list_changed"
	NotifyResourcesChanged = "notifications/resources/list_changed"
	NotifyResourceUpdated  = "notifications/resources/updated"
	NotifyRootsChanged     = "notifications/roots/list_changed"
	NotifyElicitComplete   = "notifications/elicitation/complete"
	NotifyTaskStatus       = "notifications/tasks/status"
	NotifyTasks            = "notifications/tasks"
	NotifySubscribed       = "notifications/subscriptions/acknowledged"
)

// Members of _meta that the specification defines.
const (
	MetaVersion       = "io.modelcontextprotocol/protocolVersion"
	MetaClientInfo    = "io.modelcontextprotocol/clientInfo"
	MetaCapabilities  = "io.modelcontextprotocol/clientCapabilities"
	MetaLogLevel      = "io.modelcontextprotocol/logLevel"
	MetaSubscription  = "io.modelcontextprotocol/subscriptionId"
	MetaServerInfo    = "io.modelcontextprotocol/serverInfo"
	MetaRelatedTask   = "io.modelcontextprotocol/related-task"
	MetaProgressToken = "progressToken"
	MetaTraceParent   = "traceparent"
	MetaTraceState    = "tracestate"
	MetaBaggage       = "baggage"
)

// Values of resultType (2026-07-28).
const (
	ResultComplete      = "complete"
	ResultInputRequired = "input_required"
	ResultTask          = "task"
)

// HTTP headers of MCP.
const (
	HeaderVersion     = "MCP-Protocol-Version"
	HeaderMethod      = "Mcp-Method"
	HeaderName        = "Mcp-Name"
	HeaderParamPrefix = "Mcp-Param-"
	HeaderSession     = "Mcp-Session-Id"
	HeaderLastEvent   = "Last-Event-ID"
)

// ListMember names the member of the result of a list method that holds the list, empty for any other
// method.
func ListMember(method string) string {
	switch method {
	case MethodToolsList:
		return "tools"
	case MethodPromptsList:
		return "prompts"
	case MethodResourcesList:
		return "resources"
	case MethodResourceTemplates:
		return "resourceTemplates"
	default:
		return ""
	}
}

// internMethod returns the constant for a known method, empty for any other.
func internMethod(b []byte) string {
	switch string(b) {
	case MethodInitialize:
		return MethodInitialize
	case MethodDiscover:
		return MethodDiscover
	case MethodPing:
		return MethodPing
	case MethodToolsList:
		return MethodToolsList
	case MethodToolsCall:
		return MethodToolsCall
	case MethodPromptsList:
		return MethodPromptsList
	case MethodPromptsGet:
		return MethodPromptsGet
	case MethodResourcesList:
		return MethodResourcesList
	case MethodResourceTemplates:
		return MethodResourceTemplates
	case MethodResourcesRead:
		return MethodResourcesRead
	case MethodComplete:
		return MethodComplete
	case MethodListen:
		return MethodListen
	case MethodSampling:
		return MethodSampling
	case MethodElicit:
		return MethodElicit
	case MethodTasksGet:
		return MethodTasksGet
	case NotifyInitialized:
		return NotifyInitialized
	case NotifyCancelled:
		return NotifyCancelled
	case NotifyProgress:
		return NotifyProgress
	case NotifyMessage:
		return NotifyMessage
	default:
		return ""
	}
}
