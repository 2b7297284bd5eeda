package jose

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// Claims are the members of a JWT claims set. Numbers are json.Number.
type Claims map[string]any

// Text returns a string claim, empty if it is absent. A claim of another type is an error.
func (c Claims) Text(name string) (string, error) {
	v, present := c[name]
	if !present || v == nil {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%w: %s is not a string", ErrClaim, name)
	}
	return s, nil
}

// List returns a claim that is one string or an array of strings, nil if it is absent.
func (c Claims) List(name string) ([]string, error) {
	switch v := c[name].(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		list := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("%w: %s holds something other than strings", ErrClaim, name)
			}
			list = append(list, s)
		}
		return list, nil
	default:
		return nil, fmt.Errorf("%w: %s is neither a string nor an array", ErrClaim, name)
	}
}

// Words returns a claim that is an array of strings or one string of words separated by spaces, as
// scope is (RFC 6749 section 3.3).
func (c Claims) Words(name string) ([]string, error) {
	if s, ok := c[name].(string); ok {
		return strings.Fields(s), nil
	}
	return c.List(name)
}

// Object returns a claim that is an object, nil if it is absent.
func (c Claims) Object(name string) (Claims, error) {
	v, present := c[name]
	if !present || v == nil {
		return nil, nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: %s is not an object", ErrClaim, name)
	}
	return m, nil
}

// Time returns a NumericDate claim (RFC 7519 section 2), the zero time if it is absent.
func (c Claims) Time(name string) (time.Time, error) {
	v, present := c[name]
	if !present {
		return time.Time{}, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, fmt.Errorf("%w: %s is not a number", ErrClaim, name)
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f < 0 || f > 253402300799 { // end of year 9999
		return time.Time{}, fmt.Errorf("%w: %s is out of range", ErrClaim, name)
	}
	return time.Unix(int64(f), 0), nil
}

// Times says how strictly [Claims.CheckTimes] judges. The zero value is the strict one.
type Times struct {
	Leeway      time.Duration // clock skew allowed; at most one minute
	MaxLifetime time.Duration // exp - iat at most; zero means no bound but requires nothing of iat
}

// maxLeeway bounds the clock skew that configuration may allow.
const maxLeeway = time.Minute

// CheckTimes judges exp (required), nbf and iat against now.
func (c Claims) CheckTimes(now time.Time, t Times) error {
	leeway := min(max(t.Leeway, 0), maxLeeway)
	exp, err := c.Time("exp")
	if err != nil {
		return err
	}
	nbf, err := c.Time("nbf")
	if err != nil {
		return err
	}
	iat, err := c.Time("iat")
	if err != nil {
		return err
	}
	switch {
	case exp.IsZero():
		return fmt.Errorf("%w: exp is missing", ErrClaim)
	case !now.Before(exp.Add(leeway)):
		return ErrExpired
	case now.Add(leeway).Before(nbf):
		return ErrNotYetValid
	case now.Add(leeway).Before(iat):
		return ErrFutureIssue
	case t.MaxLifetime > 0 && iat.IsZero():
		return fmt.Errorf("%w: iat is missing", ErrClaim)
	case t.MaxLifetime > 0 && exp.Sub(iat) > t.MaxLifetime:
		return ErrLifetime
	}
	return nil
}

// ParseClaims reads claims that came by another way than a token, such as an answer of RFC 7662, as
// strictly as those of a token.
func ParseClaims(data []byte) (Claims, error) { return decodeStrict(data) }
