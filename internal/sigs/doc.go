// Package sigs signs and verifies messages between Warder and peers that hold keys, in two forms.
//
// HTTP Message Signatures (RFC 9421) cover what stands around a message: method, target, headers and,
// through Content-Digest (RFC 9530), the exact bytes of the body:
//
//	signer, err := sigs.NewSigner("gate-1", privatePEM)
//	err = signer.SignRequest(r, now)
//
//	v, err := sigs.Verify(&sigs.Message{Method: "POST", TargetURI: uri, Header: h}, rules, keys, now)
//
// The envelope ([Signer.Envelope], member [MetaKey] of _meta) covers one JSON-RPC message whatever carries
// it, stdio included, and binds an answer to its request.
//
// Both carry a nonce and a time, and both are only half of the defence against replay: the caller
// remembers nonces for as long as a signature is good. Algorithms are ed25519 and ecdsa-p256-sha256; the
// key decides which, never the message. Structured fields (RFC 9651) are parsed strictly and within
// bounds.
package sigs
