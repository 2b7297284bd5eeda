// Package login is what people see of Warder's authorization server in a browser: they log in through an
// identity provider of their company or with a passkey, agree to what a client may do (control AUT-05),
// approve calls that wait for a person, and end what they began.
//
//	s, err := login.New(cfg.Login, login.Deps{State: db, Box: box, HTTP: client, URL: "https://gate.example.com/oauth", …})
//	mux.Handle(s.Prefix(), s.Handler())
//	go s.Run(ctx)                          // rechecks logins at their providers
//	url, err := s.Link(ctx, login.Invite{User: "ada", Groups: []string{"operators"}})
//
// Nobody has a password here. A federated login is code flow with PKCE, nonce and a state that is used
// once, by the browser that began it. A local account begins with a one-time link that an operator
// prints, and lives with passkeys.
//
// A login session is a random id in a cookie, whose hash is a document in the store: every replica knows
// it, and deleting the document ends it. Each login makes a new id (session fixation). A session whose
// provider gave a refresh token is rechecked there every few seconds; when the provider says no, the
// session and every token that was issued in it are revoked at once.
//
// Every form carries a token that is sealed for this browser, this session and this form, and is refused
// when the browser says that another site sent it. Names of clients, tools and values are written by
// others and shown as data (package page).
package login
