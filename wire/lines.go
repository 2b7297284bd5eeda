package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/warder-mcp/warder"
)

// A LineReader reads the newline-delimited messages of a stdio transport. It is used by one
// goroutine.
type LineReader struct {
	r    *bufio.Reader
	max  int64
	skip bool // the rest of an oversized line comes first
}

// NewLineReader returns a reader that refuses lines of more than limit bytes; zero or less means the
// default of Limits.Bytes.
func NewLineReader(r io.Reader, limit int64) *LineReader {
	if limit <= 0 {
		limit = defaultBytes
	}
	return &LineReader{r: bufio.NewReader(r), max: limit}
}

// Next returns the next line that is not blank, without white space around it. The caller owns it. A
// line that is too long is a *warder.Error of CodeTooLarge; the call after it goes on with the next
// line. The end is io.EOF.
func (l *LineReader) Next() ([]byte, error) {
	for {
		if err := l.skipRest(); err != nil {
			return nil, err
		}
		line, err := l.read()
		if line = trimSpace(line); len(line) > 0 && (err == nil || errors.Is(err, io.EOF)) {
			return line, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// read reads one line with its newline.
func (l *LineReader) read() ([]byte, error) {
	var line []byte
	for {
		chunk, err := l.r.ReadSlice('\n')
		if int64(len(line))+int64(len(bytes.TrimSuffix(chunk, []byte("\n")))) > l.max {
			l.skip = errors.Is(err, bufio.ErrBufferFull)
			return nil, warder.Fail(warder.CodeTooLarge, ReasonTooLarge, nil)
		}
		line = append(line, chunk...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// skipRest drops the rest of an oversized line.
func (l *LineReader) skipRest() error {
	for l.skip {
		_, err := l.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		l.skip = false
		if err != nil {
			return err
		}
	}
	return nil
}
