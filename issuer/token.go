package issuer

import (
	"encoding/json"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
)

// Grant types.
const (
	grantCode      = "authorization_code"
	grantRefresh   = "refresh_token"
	grantClient    = "client_credentials"
	grantExchange  = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693
	grantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523
	profileIDJAG   = "urn:ietf:params:oauth:grant-profile:id-jag"
)

// encodeDetails renders authorization details.
func encodeDetails(details []warder.Detail) json.RawMessage { return rar.Encode(details) }
