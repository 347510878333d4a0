package command

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"callchain/cmd/callchain/serve"
	"callchain/cmd/callchain/settings"

	"github.com/spf13/cobra"
)

// settingsFlags gives a command --config and a flag for each setting.
func settingsFlags(c *cobra.Command, config *string) {
	c.Flags().StringVar(config, "config", "", "YAML file with settings")
	settings.AddFlags(c.Flags())
}

func (a *app) loadSettings(c *cobra.Command, config string) (*settings.Loaded, error) {
	l, err := settings.Load(settings.Sources{File: config, Environ: a.Environ, Flags: settings.Given(c.Flags())})
	if err != nil {
		return nil, usageError{err}
	}
	return l, nil
}

func (a *app) serve() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use: "serve", Short: "Run a server", Args: args(0, 0),
		Long: `Run a server. Without settings it keeps everything in ./data and listens on 127.0.0.1: REST on 8080, MQTT on 1883, CoAP on 5683 (UDP).
Each setting is a key of the YAML file, an environment variable (http.addr is CALLCHAIN_HTTP_ADDR) and a flag; the later wins.
SIGTERM or SIGINT ends the server: waiting callers get 503 with the id of their call, accepted calls go on at the next start.`,
		Example: `  callchain serve
  callchain serve --data.dir /var/lib/callchain --http.addr 0.0.0.0:8080 --mqtt.addr 0.0.0.0:1883
  callchain serve --config callchain.yaml
  CALLCHAIN_STORE_URL=postgres://callchain:secret@db/callchain callchain serve`,
	}
	settingsFlags(c, &config)
	c.RunE = func(c *cobra.Command, _ []string) error {
		loaded, err := a.loadSettings(c, config)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Err, "# settings")
		if err := loaded.Print(a.Err); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		return a.runServer(ctx, loaded.Settings)
	}
	return c
}

func (a *app) runServer(ctx context.Context, s settings.Settings) error {
	log := newLog(a, s.Log)
	server, err := serve.New(ctx, s, log, serve.Version(a.Version))
	if err != nil {
		return err
	}
	if _, file := server.First(); file != "" {
		log.Info("the first administrator was made", "email", s.Admin.Email, "file", file)
	}
	server.Start()
	select {
	case <-server.Ready():
		log.Info("ready", "http", server.HTTPAddr(), "mqtt", orOff(server.MQTTAddr()), "coap", orOff(server.CoAPAddr()), "version", a.Version)
	case err := <-server.Failed():
		return a.stopAfter(server, err)
	case <-ctx.Done():
	}
	select {
	case err := <-server.Failed():
		return a.stopAfter(server, err)
	case <-ctx.Done():
	}
	log.Info("shutting down")
	if err := server.Stop(); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// stopAfter stops a server that is broken; what broke it is the error to tell.
func (a *app) stopAfter(server *serve.Server, cause error) error {
	if err := server.Stop(); err != nil {
		return fmt.Errorf("%w (and stopping: %w)", cause, err)
	}
	return cause
}

func newLog(a *app, l settings.Log) *slog.Logger {
	var level slog.Level
	if level.UnmarshalText([]byte(l.Level)) != nil {
		level = slog.LevelInfo // the settings have checked the word
	}
	opt := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		opt.ReplaceAttr = inWords
		return slog.New(slog.NewJSONHandler(a.Err, opt))
	}
	return slog.New(slog.NewTextHandler(a.Err, opt))
}

// inWords lets a line in JSON have the words of the line in text: slog would write a duration as nanoseconds and an address as an object.
func inWords(_ []string, attr slog.Attr) slog.Attr {
	switch v := attr.Value.Any().(type) {
	case time.Time, json.Marshaler, encoding.TextMarshaler:
	case fmt.Stringer:
		attr.Value = slog.StringValue(v.String())
	}
	return attr
}

// orOff shows the address of a listener.
func orOff(addr net.Addr) string {
	if addr == nil {
		return "off"
	}
	return addr.String()
}
