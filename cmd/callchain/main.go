// Command callchain is the server and its tools in one binary. What it does is in package command.
package main

import (
	"context"
	"os"

	"callchain/cmd/callchain/command"
)

// version is set by the linker.
var version = "dev"

func main() {
	os.Exit(command.Run(context.Background(), command.Process{
		Args: os.Args[1:], Environ: os.Environ(), In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Version: version,
	}))
}
