// Package faults breaks what can break around a gateway and checks that each fault ends in a clear error
// for the client and a record in the audit trail: never in a hang, a leak or a pass. It has tests only.
package faults
