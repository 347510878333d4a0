package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"callchain/cmd/callchain/settings"
)

// listeners are the sockets. They are bound early, so that a port in use is told before anything runs.
type listeners struct {
	http, mqtt net.Listener
}

func (l *listeners) open(s settings.Settings) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		if l.http, err = listen(ctx, "http.addr", s.HTTP.Addr); err != nil || s.MQTT.Addr == "" {
			return err
		}
		l.mqtt, err = listen(ctx, "mqtt.addr", s.MQTT.Addr)
		return err
	}
}

func listen(ctx context.Context, key, addr string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s: the port is in use; name another one, or 0 for a free one", key, addr)
	}
	return nil, fmt.Errorf("%s: %w", key, err)
}

func (l *listeners) close() {
	for _, one := range []net.Listener{l.http, l.mqtt} {
		if one != nil {
			_ = one.Close() // the server that used it has closed it already
		}
	}
}
