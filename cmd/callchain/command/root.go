// Package command is the command line: every command of the binary, its flags, its help and its exit status.
//
// The commands that talk to a server do so over its REST API, with package client. Nothing here is known to the server itself.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"callchain/cmd/callchain/bench"
	"callchain/cmd/callchain/settings"

	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	statusDone      = 0
	statusFailed    = 1
	statusUsage     = 2 // wrong use, wrong settings
	statusDisturbed = 3 // bench: other programs used too much of the machine
)

// Process is what a command sees of the process that it runs in.
type Process struct {
	Args    []string // without the program's name
	Environ []string // NAME=value
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	Version string
}

// app is one run of the command line.
type app struct {
	Process
	json    bool
	url     string
	token   string
	started bool // a command's own code has begun
}

// usageError is wrong use of a command.
type usageError struct{ error }

// Unwrap is the error itself.
func (e usageError) Unwrap() error { return e.error }

func wrongUse(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errDisturbed is bench's refusal of its own figures.
var errDisturbed = errors.New("other programs used more than 0.3 core meanwhile, so the figures are worthless; --noisy takes them all the same")

// errSilent ends a command with status 1 after it has said everything itself.
var errSilent = errors.New("")

// Run runs one command and gives the exit status: 0 done, 1 failed, 2 wrong use.
func Run(ctx context.Context, p Process) int {
	a := &app{Process: p}
	root := a.root()
	root.SetArgs(p.Args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	err := root.ExecuteContext(ctx)
	status := a.status(err)
	if err != nil && !errors.Is(err, errSilent) {
		a.complain(err)
	}
	return status
}

func (a *app) status(err error) int {
	var usage usageError
	var setting *settings.Error
	switch {
	case err == nil:
		return statusDone
	case errors.Is(err, errDisturbed):
		return statusDisturbed
	case !a.started, errors.As(err, &usage), errors.As(err, &setting), errors.Is(err, bench.ErrOptions):
		return statusUsage
	}
	return statusFailed
}

// complain writes one line, or one JSON object with --json.
func (a *app) complain(err error) {
	text := strings.TrimSpace(strings.ReplaceAll(err.Error(), "\n", "; "))
	if !a.json {
		fmt.Fprintln(a.Err, "callchain:", text)
		return
	}
	line, marshalling := json.Marshal(map[string]string{"error": text})
	if marshalling != nil {
		line = []byte(`{"error":"unprintable"}`) // texts always marshal
	}
	fmt.Fprintln(a.Err, string(line))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "callchain",
		Short: "Remote procedure calls to devices, with rule chains and a provable history",
		Long: `callchain sends remote procedure calls to devices and answers the calls that devices make. Every message runs through
rule chains, and every step of every call is kept as an event. It speaks ThingsBoard's RPC protocols.`,
		Example: `  callchain demo                                  see it work, in a few seconds
  callchain serve                                 run a server here
  callchain login --password-file data/admin-password
  callchain device create thermostat-1
  callchain rpc send thermostat-1 setTarget '{"celsius":21}'
  callchain rpc history 0193d3a2-…                what happened to a call`,
		SilenceErrors: true, SilenceUsage: true, Args: noSuchCommand, RunE: helpOnly,
		PersistentPreRun: func(*cobra.Command, []string) { a.started = true },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return wrongUse("%w; %s --help tells more", err, c.CommandPath())
	})
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON for programs")
	root.AddCommand(a.serve(), a.demo(), a.login(), a.health(), a.rpc(), a.device(), a.chain(), a.events(), a.backup(), a.restore(), a.store(), a.migrate(),
		a.bench(), a.version())
	return root
}

// group is a command that only holds others.
func group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: noSuchCommand, RunE: helpOnly}
	c.AddCommand(commands...)
	return c
}

func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	c.SuggestionsMinimumDistance = 2 // letters; cobra leaves it at 0
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(", did you mean %q?", near[0])
	}
	return wrongUse("%s has no command %q%s", c.CommandPath(), args[0], hint)
}

func helpOnly(c *cobra.Command, _ []string) error {
	if err := c.Help(); err != nil {
		return err
	}
	return wrongUse("name a command")
}

// args is a check of the number of arguments that says which are wanted.
func args(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if len(given) < least || most >= 0 && len(given) > most {
			return wrongUse("use it as: %s; %s --help tells more", c.UseLine(), c.CommandPath())
		}
		return nil
	}
}

// printJSON writes a value as one line.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.Out, format, args...) }

func (a *app) getenv(name string) string {
	for _, pair := range a.Environ {
		if key, value, _ := strings.Cut(pair, "="); key == name {
			return value
		}
	}
	return ""
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]string{"version": a.Version})
			}
			a.printf("callchain %s\n", a.Version)
			return nil
		},
	}
}
