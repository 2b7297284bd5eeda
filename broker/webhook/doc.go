// Package webhook tells another system of calls that wait for a person, and takes its decisions. Both
// directions are signed as Standard Webhooks 1.0.0 describes: the headers webhook-id, webhook-timestamp
// and webhook-signature cover id, time and body, with HMAC-SHA-256 ("v1") or Ed25519 ("v1a").
//
//	out, err := webhook.NewSender(webhook.SenderConfig{URL: "https://desk.example/held", Key: key}, webhook.SenderDeps{HTTP: client})
//	deps.Notify = out.Notify
//	in, err := webhook.NewReceiver(webhook.ReceiverConfig{Keys: keys}, webhook.ReceiverDeps{Decide: b.Holds.Decide, Replays: db.Replays()})
//	mux.Handle("POST /approvals/webhook", in)
//
// A message out names the call but not its parameters: those are shown to people who may decide, by the
// admin plane and the approval page. A message in is a decision by a named person, bound to the nonce of
// the asking; it is taken once.
package webhook
