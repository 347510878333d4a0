package kafka

import (
	"context"
	"net"
)

// DialGroup lets tests stand between the group and the brokers.
func DialGroup(b *Bus, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	b.options.dial = dial
}
