package rar

import (
	"cmp"
	"strconv"
	"strings"
)

// A decimal is a JSON number without rounding: 0.digits × 10^exp. Zero has no digits.
type decimal struct {
	negative bool
	digits   string // without leading and trailing zeros
	exp      int64
}

// maxExponent bounds exponents, so that sums of them do not overflow.
const maxExponent = 1 << 40

// parseDecimal reads a JSON number; false if its exponent is absurd.
func parseDecimal(raw string) (decimal, bool) {
	var d decimal
	if raw, d.negative = strings.CutPrefix(raw, "-"); raw == "" {
		return d, false
	}
	mantissa, exponent := raw, ""
	if i := strings.IndexAny(raw, "eE"); i >= 0 {
		mantissa, exponent = raw[:i], raw[i+1:]
	}
	if exponent != "" {
		n, err := strconv.ParseInt(exponent, 10, 64)
		if err != nil || n > maxExponent || n < -maxExponent {
			return d, false
		}
		d.exp = n
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	d.exp += int64(len(whole))
	short := strings.TrimLeft(digits, "0")
	d.exp -= int64(len(digits) - len(short))
	if d.digits = strings.TrimRight(short, "0"); d.digits == "" {
		return decimal{}, true
	}
	return d, true
}

func (a decimal) sign() int {
	switch {
	case a.digits == "":
		return 0
	case a.negative:
		return -1
	default:
		return 1
	}
}

// compare returns -1, 0 or 1 as a is less than, equal to or greater than b. Digits have no trailing
// zeros, so they order as text does.
func (a decimal) compare(b decimal) int {
	sign := a.sign()
	if other := b.sign(); sign != other || sign == 0 {
		return cmp.Compare(sign, other)
	}
	return sign * cmp.Or(cmp.Compare(a.exp, b.exp), cmp.Compare(a.digits, b.digits))
}

// sameNumber reports whether two JSON numbers are equal, exactly.
func sameNumber(a, b []byte) bool {
	if string(a) == string(b) {
		return true
	}
	x, ok := parseDecimal(string(a))
	y, also := parseDecimal(string(b))
	return ok && also && x.compare(y) == 0
}

// formatFloat writes the shortest number that reads back as f.
func formatFloat(f float64) []byte { return strconv.AppendFloat(nil, f, 'e', -1, 64) }

// compareFloat compares a JSON number with a limit, exactly; false if it is beyond double precision.
// Rounding is monotonic, so only a number that rounds to the limit needs a second look.
func compareFloat(raw []byte, limit float64) (int, bool) {
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0, false
	}
	if f != limit {
		return cmp.Compare(f, limit), true
	}
	x, ok := parseDecimal(string(raw))
	y, also := parseDecimal(string(formatFloat(limit)))
	return x.compare(y), ok && also
}
