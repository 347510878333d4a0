package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// health asks a server whether it is ready. It exists for images without a shell, whose only program is this one.
func (a *app) health() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "health", Short: "Ask whether a server is ready", Args: args(0, 0),
		Long: `Ask a server whether it is ready to be sent requests (GET /readyz, no login needed). Exit status 0 if it is; 1 if it is not, with its
reasons, or if it cannot be reached.`,
		Example: `  callchain health
  callchain health --url http://10.0.0.5:8080 --timeout 1s`,
	}
	c.Flags().StringVar(&a.url, "url", "", "server, "+serverDefault+" by default (or CALLCHAIN_URL)")
	c.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "longest wait for the answer")
	c.RunE = func(c *cobra.Command, _ []string) error {
		url, _ := a.server(session{})
		server, err := newClient(url, "")
		if err != nil {
			return err
		}
		defer server.Close()
		ctx, cancel := context.WithTimeout(c.Context(), timeout)
		defer cancel()
		if err := server.Ready(ctx); err != nil {
			return err
		}
		if a.json {
			return a.printJSON(map[string]any{"url": url, "ready": true})
		}
		a.printf("%s is ready\n", url)
		return nil
	}
	return c
}
