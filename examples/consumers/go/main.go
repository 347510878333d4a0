// Command go follows the topic callchain.events and prints what happens to calls, one line an event. It shows what a reader of the topic has
// to do: keep its own positions, drop what comes again, notice what is missing.
//
//	go run ./examples/consumers/go --state positions.json
//	go run ./examples/consumers/go --state positions.json --call 01a20bc9-8d89-7d54-ae67-ad4a145a3494
//
// It is an example of its own and uses nothing of the server's packages. docs/asyncapi.yaml describes the topic.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// options are what the user asks for.
type options struct {
	brokers []string
	topic   string
	state   string // file of the positions
	call    string // only this call, until its end
	once    bool   // end at what is the newest event now
}

func main() {
	var o options
	brokers := flag.String("brokers", "127.0.0.1:9092", "host:port of Kafka's brokers, with commas between them")
	prefix := flag.String("prefix", "", "the server's bus.kafka.prefix")
	flag.StringVar(&o.state, "state", "positions.json", "file that keeps how far this program has read")
	flag.StringVar(&o.call, "call", "", "id of a call: print only its events, and end with it")
	flag.BoolVar(&o.once, "once", false, "end when what is there now was read")
	flag.Parse()
	o.brokers, o.topic = strings.Split(*brokers, ","), *prefix+"callchain.events"

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	positions, err := loadPositions(o.state)
	if err != nil {
		return err
	}
	return follow(ctx, o, positions, func(e *event) (done bool) {
		if call := e.call(); call != "" && (o.call == "" || o.call == call) {
			fmt.Fprintln(os.Stdout, e.line())
			return o.call != "" && e.terminal()
		}
		return false
	})
}
