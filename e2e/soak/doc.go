// Package soak runs a real gateway under load for a while and proves that it does not grow: memory, file
// descriptors and threads after many calls are what they were after a few.
//
//	WARDER_SOAK=30m go test -v ./e2e/soak
package soak
