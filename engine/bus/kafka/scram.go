package kafka

import (
	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// conversation is a SCRAM login (RFC 5802, RFC 7677) as sarama asks for it.
type conversation struct {
	hash   scram.HashGeneratorFcn
	client *scram.ClientConversation
}

func scram256() sarama.SCRAMClient { return &conversation{hash: scram.SHA256} }
func scram512() sarama.SCRAMClient { return &conversation{hash: scram.SHA512} }

// Begin implements sarama.SCRAMClient.
func (c *conversation) Begin(user, password, authzID string) error {
	credentials, err := c.hash.NewClient(user, password, authzID)
	if err != nil {
		return err
	}
	c.client = credentials.NewConversation()
	return nil
}

// Step implements sarama.SCRAMClient.
func (c *conversation) Step(challenge string) (string, error) { return c.client.Step(challenge) }

// Done implements sarama.SCRAMClient.
func (c *conversation) Done() bool { return c.client.Done() }
