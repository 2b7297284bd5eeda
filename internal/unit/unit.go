// Package unit holds configuration scalars with units: sizes such as "1MiB". Durations use
// time.Duration, which the YAML decoder reads from "5m".
package unit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size in bytes. In YAML it is an integer with an optional unit B, KiB, MiB or GiB.
type Bytes int64

// Sizes in bytes.
const (
	B   Bytes = 1
	KiB       = 1024 * B
	MiB       = 1024 * KiB
	GiB       = 1024 * MiB
)

// ParseBytes reads "512", "16KiB", "1MiB" or "2GiB".
func ParseBytes(s string) (Bytes, error) {
	number, unit := s, B
	for _, u := range []struct {
		suffix string
		size   Bytes
	}{{"KiB", KiB}, {"MiB", MiB}, {"GiB", GiB}, {"B", B}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/int64(unit) {
		return 0, fmt.Errorf("size %q: want an integer with an optional unit B, KiB, MiB or GiB", s)
	}
	return Bytes(n) * unit, nil
}

// UnmarshalText reads the size as configuration files write it.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = n
	return nil
}

// MarshalText writes the size with the largest unit that divides it.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String writes the size with the largest unit that divides it.
func (b Bytes) String() string {
	switch {
	case b != 0 && b%GiB == 0:
		return fmt.Sprintf("%dGiB", int64(b/GiB))
	case b != 0 && b%MiB == 0:
		return fmt.Sprintf("%dMiB", int64(b/MiB))
	case b != 0 && b%KiB == 0:
		return fmt.Sprintf("%dKiB", int64(b/KiB))
	default:
		return strconv.FormatInt(int64(b), 10)
	}
}
