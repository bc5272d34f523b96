package main

import (
	"context"
	"fmt"
	"io"

	"github.com/bindery-hub/bindery/runc"
)

// shimCommand starts the process that stands between launcher and container.
const shimCommand = "session-shim"

// shim is that process. It is no command of the parser's: each session waits for it to start.
func shim(ctx context.Context, dir string, stderr io.Writer) int {
	if err := runc.Shim(ctx, dir); err != nil {
		fmt.Fprintln(stderr, "bindery: session-shim:", err)
		return exitFailed
	}
	return exitOK
}
