package command

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"callchain/cmd/callchain/bench"

	"github.com/spf13/cobra"
)

func (a *app) benchCluster() *cobra.Command {
	o := bench.ClusterOptions{}
	var urls []string
	c := &cobra.Command{
		Use: "cluster", Short: "Watch a cluster under a small load while nodes come and go", Args: args(0, 0),
		Long: `Send a small load through all nodes of a cluster to simulated devices at all nodes, and tell second by second what becomes of it: calls sent,
succeeded (ok), refused (503), failed, and sent again through another node because theirs could not be reached; the partitions of each
node ("-": it does not answer) and its devices. Each line of standard input is put into the table: say there what you do to the cluster.

Three calls of four are two-way and light; every fourth is persistent. At the end each call whose success was returned is asked for: the
persistent ones must have been carried out, too. Exit status 1 if one was lost, or if none succeeded. The devices that were made stay.

The login of the first node, or CALLCHAIN_TOKEN, is used at all of them: they share their keys.`,
		Example: `  callchain bench cluster --urls http://10.0.0.5:8080,http://10.0.0.6:8080 --mqtt 10.0.0.5:1883,10.0.0.6:1883 --duration 1m
  make cluster   three nodes on this machine, one killed and one stopped meanwhile`,
	}
	c.Flags().StringSliceVar(&urls, "urls", nil, "REST addresses of the nodes")
	c.Flags().StringSliceVar(&o.MQTT, "mqtt", nil, "host:port of their MQTT listeners, in the same order")
	c.Flags().StringVar(&a.token, "token", "", "access token (or CALLCHAIN_TOKEN, or the one of callchain login)")
	c.Flags().IntVar(&o.Devices, "devices", 30, "number of devices")
	c.Flags().Float64Var(&o.Rate, "rate", 60, "calls a second")
	c.Flags().DurationVar(&o.Duration, "duration", 30*time.Second, "how long calls are sent")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		if err := a.clusterClients(ctx, &o, urls); err != nil {
			return err
		}
		if err := o.Validate(); err != nil {
			return err
		}
		return a.watchCluster(ctx, o)
	}
	return c
}

// clusterClients makes a client for each node, all with the login of the first.
func (a *app) clusterClients(ctx context.Context, o *bench.ClusterOptions, urls []string) error {
	for i, url := range urls {
		if i == 0 {
			a.url = url
			first, err := a.client(ctx)
			if err != nil {
				return err
			}
			o.Clients = append(o.Clients, first)
			continue
		}
		next, err := newClient(url, o.Clients[0].Token())
		if err != nil {
			return err
		}
		o.Clients = append(o.Clients, next)
	}
	return nil
}

func (a *app) watchCluster(ctx context.Context, o bench.ClusterOptions) error {
	o.Log = func(format string, args ...any) { fmt.Fprintf(a.Err, format+"\n", args...) }
	o.Marks = a.marks()
	if !a.json {
		a.printf("%s\n", bench.ClusterHead(len(o.Clients)))
		o.Row = func(s bench.ClusterSecond) { a.printf("%s\n", s) }
	}
	for _, c := range o.Clients {
		defer c.Close()
	}
	result, err := bench.WatchCluster(ctx, o)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(result)
	} else {
		result.Print(a.Out)
	}
	switch {
	case err != nil:
		return err
	case len(result.Lost) > 0:
		return fmt.Errorf("%d calls were lost whose success was returned", len(result.Lost))
	case result.Total.Succeeded == 0:
		return fmt.Errorf("none of %d calls succeeded", result.Total.Sent)
	}
	return nil
}

// marks are the lines of standard input. Whoever reads a terminal's stays with it until the program ends.
func (a *app) marks() <-chan string {
	out := make(chan string, 16)
	go func() {
		defer close(out)
		lines := bufio.NewScanner(a.In)
		for lines.Scan() {
			if text := strings.TrimSpace(lines.Text()); text != "" {
				out <- text
			}
		}
	}()
	return out
}
