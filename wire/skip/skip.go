// Package skip finds where the parts of a JSON text end, without reading what they say. It is for
// text that package wire has validated: on any other it stays within bounds, and what it returns means
// nothing.
//
//	end := skip.Value(b, start) // b[start:end] is the value
package skip

import "bytes"

// Space returns the offset of the first byte at or after i that is not white space.
func Space(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' {
		i++
	}
	return i
}

// String returns the offset after the string that begins at i. It reads every byte at most twice:
// once to find a quote, and backwards over the escapes in front of it.
func String(b []byte, i int) int {
	for i++; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return len(b)
		}
		i += n
		slashes := 0
		for b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
	return len(b)
}

// Scalar returns the offset after the number or literal that begins at i.
func Scalar(b []byte, i int) int {
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return i
		}
		i++
	}
	return i
}

// Value returns the offset after the value that begins at i.
func Value(b []byte, i int) int {
	if i >= len(b) {
		return len(b)
	}
	switch b[i] {
	case '"':
		return String(b, i)
	case '{', '[':
		return nested(b, i)
	default:
		return Scalar(b, i)
	}
}

// nested returns the offset after the object or array that begins at i.
func nested(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			i = String(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return len(b)
}
