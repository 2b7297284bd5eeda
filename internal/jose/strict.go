package jose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of one decoded header or claims object.
const (
	maxDepth   = 8    // act chains and authorization details are shallow
	maxMembers = 2048 // values in total; providers with many groups stay far below
)

// decodeStrict reads one JSON object: valid UTF-8, no repeated name at any depth, nothing after it,
// bounded depth and size. Numbers stay json.Number.
func decodeStrict(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%w: invalid UTF-8", ErrMalformed)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	r := strictReader{d: d, left: maxMembers}
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: not a JSON object", ErrMalformed)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: data after the object", ErrMalformed)
	}
	return object, nil
}

// strictReader walks tokens, because encoding/json itself accepts repeated names.
type strictReader struct {
	d    *json.Decoder
	left int
}

func (r *strictReader) value(depth int) (any, error) {
	if r.left--; r.left < 0 || depth > maxDepth {
		return nil, fmt.Errorf("%w: too deep or too many values", ErrMalformed)
	}
	t, err := r.d.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch t {
	case json.Delim('{'):
		return r.object(depth)
	case json.Delim('['):
		return r.array(depth)
	default:
		return t, nil
	}
}

func (r *strictReader) object(depth int) (any, error) {
	m := map[string]any{}
	for r.d.More() {
		t, err := r.d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		name, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("%w: member name is not a string", ErrMalformed)
		}
		if _, seen := m[name]; seen {
			return nil, ErrDuplicate
		}
		if m[name], err = r.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return m, r.end()
}

func (r *strictReader) array(depth int) (any, error) {
	a := []any{}
	for r.d.More() {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	return a, r.end()
}

func (r *strictReader) end() error {
	if _, err := r.d.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}
