package wire

// intern returns a shared string for the member names that MCP messages are made of, so that reading
// them allocates nothing; empty for any other name.
func intern(b []byte) string {
	if known := internRequest(b); known != "" {
		return known
	}
	return internAnswer(b)
}

// internRequest knows the envelope, requests and _meta.
func internRequest(b []byte) string {
	switch string(b) {
	case MetaVersion:
		return MetaVersion
	case MetaClientInfo:
		return MetaClientInfo
	case MetaCapabilities:
		return MetaCapabilities
	case MetaLogLevel:
		return MetaLogLevel
	case MetaSubscription:
		return MetaSubscription
	case MetaServerInfo:
		return MetaServerInfo
	case "jsonrpc":
		return "jsonrpc"
	case "id":
		return "id"
	case "method":
		return "method"
	case "params":
		return "params"
	case "result":
		return "result"
	case "error":
		return "error"
	case "_meta":
		return "_meta"
	case "name":
		return "name"
	case "arguments":
		return "arguments"
	case "uri":
		return "uri"
	case "cursor":
		return "cursor"
	case "taskId":
		return "taskId"
	case "task":
		return "task"
	case "ref":
		return "ref"
	case "argument":
		return "argument"
	case "context":
		return "context"
	case "inputResponses":
		return "inputResponses"
	case "requestState":
		return "requestState"
	case "protocolVersion":
		return "protocolVersion"
	case "capabilities":
		return "capabilities"
	case "clientInfo":
		return "clientInfo"
	case "progressToken":
		return "progressToken"
	case "traceparent":
		return "traceparent"
	case "tracestate":
		return "tracestate"
	case "baggage":
		return "baggage"
	case "requestId":
		return "requestId"
	case "reason":
		return "reason"
	case "notifications":
		return "notifications"
	case "level":
		return "level"
	default:
		return ""
	}
}

// internAnswer knows results, errors, notifications and what servers ask.
func internAnswer(b []byte) string {
	switch string(b) {
	case "code":
		return "code"
	case "message":
		return "message"
	case "data":
		return "data"
	case "content":
		return "content"
	case "structuredContent":
		return "structuredContent"
	case "isError":
		return "isError"
	case "resultType":
		return "resultType"
	case "ttlMs":
		return "ttlMs"
	case "cacheScope":
		return "cacheScope"
	case "inputRequests":
		return "inputRequests"
	case "tools":
		return "tools"
	case "prompts":
		return "prompts"
	case "resources":
		return "resources"
	case "resourceTemplates":
		return "resourceTemplates"
	case "nextCursor":
		return "nextCursor"
	case "contents":
		return "contents"
	case "messages":
		return "messages"
	case "description":
		return "description"
	case "serverInfo":
		return "serverInfo"
	case "instructions":
		return "instructions"
	case "supportedVersions":
		return "supportedVersions"
	case "progress":
		return "progress"
	case "total":
		return "total"
	case "logger":
		return "logger"
	case "completion":
		return "completion"
	case "maxTokens":
		return "maxTokens"
	case "systemPrompt":
		return "systemPrompt"
	case "role":
		return "role"
	case "model":
		return "model"
	case "stopReason":
		return "stopReason"
	case "action":
		return "action"
	case "requestedSchema":
		return "requestedSchema"
	case "mode":
		return "mode"
	case "url":
		return "url"
	case "elicitationId":
		return "elicitationId"
	case "roots":
		return "roots"
	default:
		return ""
	}
}

// misspelt reports whether a folded member name (see appendFolded) is that of a name known to
// intern. Asked for names that intern does not know, it finds those that a parser which ignores case
// would take for a known one.
func misspelt(folded []byte) bool {
	switch string(folded) {
	case "ACTION", "ARGUMENT", "ARGUMENTS", "BAGGAGE", "CACHESCOPE", "CAPABILITIES", "CLIENTINFO",
		"CODE", "COMPLETION", "CONTENT", "CONTENTS", "CONTEXT", "CURSOR", "DATA", "DESCRIPTION",
		"ELICITATIONID", "ERROR", "ID", "INPUTREQUESTS", "INPUTRESPONSES", "INSTRUCTIONS",
		"IO.MODELCONTEXTPROTOCOL/CLIENTCAPABILITIES", "IO.MODELCONTEXTPROTOCOL/CLIENTINFO",
		"IO.MODELCONTEXTPROTOCOL/LOGLEVEL", "IO.MODELCONTEXTPROTOCOL/PROTOCOLVERSION",
		"IO.MODELCONTEXTPROTOCOL/SERVERINFO", "IO.MODELCONTEXTPROTOCOL/SUBSCRIPTIONID", "ISERROR",
		"JSONRPC", "LEVEL", "LOGGER", "MAXTOKENS", "MESSAGE", "MESSAGES", "METHOD", "MODE", "MODEL",
		"NAME", "NEXTCURSOR", "NOTIFICATIONS", "PARAMS", "PROGRESS", "PROGRESSTOKEN", "PROMPTS",
		"PROTOCOLVERSION", "REASON", "REF", "REQUESTEDSCHEMA", "REQUESTID", "REQUESTSTATE", "RESOURCES",
		"RESOURCETEMPLATES", "RESULT", "RESULTTYPE", "ROLE", "ROOTS", "SERVERINFO", "STOPREASON",
		"STRUCTUREDCONTENT", "SUPPORTEDVERSIONS", "SYSTEMPROMPT", "TASK", "TASKID", "TOOLS", "TOTAL",
		"TRACEPARENT", "TRACESTATE", "TTLMS", "URI", "URL", "_META":
		return true
	default:
		return false
	}
}
