package app

import "github.com/warder-mcp/warder/admin"

// issuerAdmin adds what Warder's own authorization server has to the admin plane.
func (in *instance) issuerAdmin(*admin.Deps) {}
