package tlog

import (
	"bytes"
	"context"
	"flag"
	"io"
	"log/slog"
	"sync"

	"k8s.io/klog/v2"
)

// driverLog carries the messages of the tree's driver into ours. The driver logs through klog, which
// is global to the process: the log opened last gets them all.
type driverLog struct{ logger *slog.Logger }

// redirection serialises redirect: klog's flags are plain variables of the process.
var redirection sync.Mutex

// redirect sends klog to logger and nowhere else. Each step is safe while others log.
func redirect(logger *slog.Logger) {
	redirection.Lock()
	defer redirection.Unlock()
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("INFO", driverLog{logger}) // every line passes here once
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	_ = flags.Set("stderrthreshold", "FATAL") // a known flag with a known value
	klog.LogToStderr(false)
}

// Write logs one line. Its first letter is the severity: I, W, E or F.
func (d driverLog) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	if len(line) > 0 && line[0] != 'I' {
		level = slog.LevelWarn
	}
	_, text, ok := bytes.Cut(line, []byte("] "))
	if !ok {
		text = line
	}
	d.logger.Log(context.Background(), level, "audit tree", slog.String("message", string(bytes.TrimSpace(text))))
	return len(line), nil
}
