package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/warder-mcp/warder/config"
)

// Exit codes.
const (
	exitOK      = 0 // done
	exitFailed  = 1 // it failed
	exitUsage   = 2 // the command was used wrongly
	exitConfig  = 3 // the configuration is not valid
	exitVerify  = 4 // a verification failed
	exitRefused = 5 // a decision said no
)

// An ExitCode is one way in which a command ends.
type ExitCode struct {
	Code    int
	Meaning string
}

// ExitCodes lists every exit code of every command.
func ExitCodes() []ExitCode {
	return []ExitCode{
		{exitOK, "done"},
		{exitFailed, "it failed"},
		{exitUsage, "the command was used wrongly"},
		{exitConfig, "the configuration is missing or not valid"},
		{exitVerify, "a verification failed"},
		{exitRefused, "a decision said no"},
	}
}

// A failureError is an error with an exit code and a hint for the person at the keyboard.
type failureError struct {
	code int
	hint string
	err  error
}

// Error returns what went wrong; empty when the command has said it already.
func (f *failureError) Error() string {
	if f.err == nil {
		return ""
	}
	return f.err.Error()
}

// Unwrap returns the cause.
func (f *failureError) Unwrap() error { return f.err }

// fail gives an error an exit code and, if it is not empty, a hint.
func fail(code int, hint string, err error) error {
	return &failureError{code: code, hint: hint, err: err}
}

// silent ends with a code; the command has already said why.
func silent(code int) error { return &failureError{code: code} }

// report writes an error for a person and returns the exit code.
func report(w io.Writer, err error) int {
	if e, ok := errors.AsType[*config.Error](err); ok {
		if rerr := e.Render(w); rerr != nil {
			return exitFailed
		}
		fmt.Fprintf(w, "%s\n", counted(len(e.Problems), "problem"))
		return exitConfig
	}
	code, hint := exitFailed, ""
	if f, ok := errors.AsType[*failureError](err); ok {
		code, hint = f.code, f.hint
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(w, "warder: %s\n", lines(text))
	}
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", lines(hint))
	}
	return code
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
