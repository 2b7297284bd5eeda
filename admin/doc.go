// Package admin is the admin plane: one HTTP API through which people and programs operate a gateway.
//
//	api, err := admin.New(cfg.Admin.API, admin.Deps{Grants: …, Revocations: …, Authenticate: …, State: …})
//	go admin.Serve(ctx, data, api.Handler(), log)  // the socket of the data folder
//	server := &http.Server{Handler: api.Handler()} // the listener, behind TLS or on loopback
//
// It has two doors. The socket in the data folder hears the user who runs the gateway, and root, as the
// kernel names them. The listener hears holders of an access token whose audience is the admin API alone;
// a token for an MCP server is no credential here. No cookie is read anywhere, so no page in a browser can
// act for its reader.
//
// Every operation is one row of [Operations], which is also where the OpenAPI document comes from, and
// one row of the table of roles in roles.go; an operation without a row there is open to nobody. A
// destructive operation needs a phishing-resistant second factor (control PUB-08), and [BreakGlass] is
// the way in when the identity provider is down.
//
// What an operation does is done by services behind small interfaces; the admin plane says who may, and
// writes down who did.
package admin
