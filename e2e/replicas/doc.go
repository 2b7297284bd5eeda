// Package replicas runs several gateways over one PostgreSQL and one Redis, takes each of these away while
// they work, and looks whether what one gateway decides holds at the others: revocations to the last byte of
// an open stream, bounded grants, approvals, proofs, keys. It also looks where the bytes of a caller's
// credential are to be found. It has tests only.
package replicas
