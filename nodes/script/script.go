// Package script is the contract between the nodes that run scripts and the engine that runs them, with what both kinds of
// scripts have in common: how a node names its script, and what a script may give back.
//
// A script is the body of a function (msg, metadata, msgType), as in ThingsBoard. It is pure: the same message gives the same
// result. The package knows no engine; one is handed in where the list of kinds is made (nodes/builtin).
package script

import (
	"errors"
	"fmt"
	"time"

	"callchain/nodes"
)

// Lang is a language of scripts, as ThingsBoard's field scriptLang names it.
type Lang string

// The languages.
const (
	JavaScript Lang = "JS"
	TBEL       Lang = "TBEL"
)

// Engine compiles scripts. It may be used by several goroutines at once, and so may what it makes.
type Engine interface {
	// Compile checks the body of a function (msg, metadata, msgType). The error is a *SyntaxError where a place can be named.
	Compile(lang Lang, body string) (Script, error)
}

// Script is a compiled script.
type Script interface {
	// Run calls the script with a message; node is the name of the node, which chance is seeded with, too. It never changes what
	// the message refers to. The result is Undefined, or has the shape of message data (nodes.Parsed) without what JSON cannot
	// hold; what the script left as it came is the same memory as in the message. There is one exception: a member "metadata"
	// of the result, or of an item of it, that is the message's own and unchanged is given as nodes.Metadata.
	// The error is a *Thrown, an *Excess or says that the message or the result is too large.
	Run(m nodes.Msg, node string) (any, error)
}

// Undefined is the result of a script that returns nothing.
type Undefined struct{}

// SyntaxError is a mistake in a script, by line and column of its body, from 1.
type SyntaxError struct {
	Line, Column int
	Text         string // with the mend
}

// Error is the text and the place.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s (line %d, column %d of the script)", e.Text, e.Line, e.Column)
}

// Thrown is what a script threw and did not catch.
type Thrown struct {
	Text         string
	Line, Column int // of the body, from 1; 0 if it is not known
}

// Error is the text and the place.
func (e *Thrown) Error() string { return e.Text + e.place("the script") }

func (e *Thrown) place(of string) string {
	if e.Line == 0 {
		return " (" + of + ")"
	}
	return fmt.Sprintf(" (line %d, column %d of %s)", e.Line, e.Column, of)
}

// Excess is the end of a script that ran longer than it may, or that did so too often and is not run for a while.
type Excess struct {
	Budget time.Duration
	Until  int64 // µs since 1970: the script is suspended until then; 0 if it is not
}

// BudgetExceeded begins the reason of every failure that is an Excess, so that it can be searched and counted.
const BudgetExceeded = "budget_exceeded"

// Error says what happened.
func (e *Excess) Error() string { return e.of("the script") }

func (e *Excess) of(name string) string {
	if e.Until == 0 {
		return fmt.Sprintf("%s: %s ran longer than its budget of %s", BudgetExceeded, name, e.Budget)
	}
	return fmt.Sprintf("%s: %s is suspended until %s, because it exceeded its budget of %s three times in a minute",
		BudgetExceeded, name, time.UnixMicro(e.Until).UTC().Format(time.RFC3339), e.Budget)
}

// Function is the script of a node.
type Function struct {
	script Script
	node   string
}

// Named is the function of a node of which the name is known.
func (f Function) Named(node string) Function { f.node = node; return f }

// call runs the script; errors name the node.
func (f Function) call(m nodes.Msg) (any, error) {
	v, err := f.script.Run(m, f.node)
	if err == nil {
		return v, nil
	}
	if thrown, ok := errors.AsType[*Thrown](err); ok {
		return nil, errors.New(thrown.Text + thrown.place(f.name()))
	}
	if excess, ok := errors.AsType[*Excess](err); ok {
		return nil, errors.New(excess.of(f.name()))
	}
	return nil, fmt.Errorf("%s: %w", f.name(), err)
}

func (f Function) name() string {
	if f.node == "" {
		return "the script"
	}
	return fmt.Sprintf("the script of node %q", f.node)
}
