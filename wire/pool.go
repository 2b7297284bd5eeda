package wire

import "sync"

// scanners keeps decoders between messages: their stacks are most of what a message would allocate.
var scanners = sync.Pool{New: func() any { return newScanner() }}
