package telemetry

import (
	"crypto/rand"

	"go.opentelemetry.io/otel/trace"
)

func randomTrace() (id trace.TraceID) {
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	return id
}

func randomSpan() (id trace.SpanID) {
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	return id
}
