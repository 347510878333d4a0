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
	coap       *net.UDPConn
}

func (l *listeners) open(s settings.Settings) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		if l.http, err = listen(ctx, "http.addr", s.HTTP.Addr); err != nil {
			return err
		}
		if s.MQTT.Addr != "" {
			if l.mqtt, err = listen(ctx, "mqtt.addr", s.MQTT.Addr); err != nil {
				return err
			}
		}
		if s.CoAP.Addr != "" {
			l.coap, err = listenPacket(ctx, "coap.addr", s.CoAP.Addr)
		}
		return err
	}
}

func listenPacket(ctx context.Context, key, addr string) (*net.UDPConn, error) {
	var config net.ListenConfig
	c, err := config.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return nil, refusedAddr(key, addr, err)
	}
	return c.(*net.UDPConn), nil // "udp" gives no other
}

func listen(ctx context.Context, key, addr string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, refusedAddr(key, addr, err)
	}
	return l, nil
}

func refusedAddr(key, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s: the port is in use; name another one, or 0 for a free one", key, addr)
	}
	return fmt.Errorf("%s: %w", key, err)
}

func (l *listeners) close() {
	for _, one := range []net.Listener{l.http, l.mqtt} {
		if one != nil {
			_ = one.Close() // the server that used it has closed it already
		}
	}
	if l.coap != nil {
		_ = l.coap.Close() // likewise
	}
}
