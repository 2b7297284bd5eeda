package config

import (
	"fmt"
	"time"

	"github.com/warder-mcp/warder/internal/strictyaml"
)

// A Mode says what the verdict of a control does. The zero mode enforces.
type Mode uint8

// The modes.
const (
	Enforce Mode = iota // a refusal refuses
	Monitor             // a refusal is recorded, the exchange goes on
	Off                 // the control does not run
)

// String returns the word of the mode in configuration files.
func (m Mode) String() string { return [...]string{"enforce", "monitor", "off"}[min(m, Off)] }

// MarshalText writes the word of the mode.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the word of a mode.
func (m *Mode) UnmarshalText(text []byte) error {
	switch string(text) {
	case "enforce":
		*m = Enforce
	case "monitor":
		*m = Monitor
	case "off":
		*m = Off
	default:
		return fmt.Errorf("mode %q: want enforce, monitor or off", strictyaml.Clip(string(text)))
	}
	return nil
}

// A Date is a day in UTC, written YYYY-MM-DD.
type Date struct{ time.Time }

// UnmarshalText reads a day.
func (d *Date) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return fmt.Errorf("date %q: want YYYY-MM-DD", strictyaml.Clip(string(text)))
	}
	d.Time = t
	return nil
}

// MarshalText writes the day.
func (d Date) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	return []byte(d.Format(time.DateOnly)), nil
}
