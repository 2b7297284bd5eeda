// Command bench measures what a call through Warder costs beside a direct call and beside
// httputil.ReverseProxy, each a process of its own, interleaved in one run.
//
//	bench run -warder ./warder [-seconds 2] [-out docs/reference/performance.md]
//
// The load is tools/call of an echo tool of 0.6, 10 and 100 KB on 1 and 32 connections. CPU is what
// the kernel accounted to all threads of the proxy process (/proc/PID/task/*/schedstat, nanoseconds),
// divided by calls; allocations come from the process's own runtime counters; every reply is read to
// its end and compared with what was sent.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: bench run|echo|proxy|sdk|stdio [flags]")
		os.Exit(2)
	}
	var err error
	switch args := os.Args[2:]; os.Args[1] {
	case "run":
		err = run(args)
	case "echo":
		err = serveEcho(args)
	case "proxy":
		err = serveProxy(args)
	case "sdk":
		err = serveSDK(args)
	case "stdio":
		err = serveStdio()
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
