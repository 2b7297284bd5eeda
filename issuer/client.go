package issuer

// clientMeta is what only this package reads of a registration.
type clientMeta struct{}
