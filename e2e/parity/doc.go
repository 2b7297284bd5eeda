// Package parity proves that no way around the chain exists: it drives every method of every revision,
// in both directions, through every front door, in front of every kind of upstream, alone and in a
// group, and holds the audit trail against what both ends of the wire saw.
//
// It has tests only. The pieces are a server that notes every message it gets (peer_test.go), raw
// clients of the three front doors (door_test.go), the messages (script_test.go), and the comparison
// (parity_test.go).
package parity
