package upstream

import (
	"log/slog"

	"github.com/warder-mcp/warder/internal/secret"
)

type (
	slogAttr  = slog.Attr
	secretRef = secret.Ref
)
