package kafka

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// A login goes through with the right password only, and the server proves that it knows it too.
func TestSCRAM(t *testing.T) {
	for name, c := range map[string]struct {
		hash   scram.HashGeneratorFcn
		client func() sarama.SCRAMClient
	}{
		"SCRAM-SHA-256": {scram.SHA256, scram256},
		"SCRAM-SHA-512": {scram.SHA512, scram512},
	} {
		t.Run(name, func(t *testing.T) {
			known, err := c.hash.NewClient("user", "secret", "")
			if err != nil {
				t.Fatal(err)
			}
			stored, err := known.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt of 16 bytes", Iters: 4096})
			if err != nil {
				t.Fatal(err)
			}
			server, err := c.hash.NewServer(func(string) (scram.StoredCredentials, error) { return stored, nil })
			if err != nil {
				t.Fatal(err)
			}
			if err := login(c.client(), server.NewConversation(), "secret"); err != nil {
				t.Errorf("the right password: %v", err)
			}
			if err := login(c.client(), server.NewConversation(), "guess"); err == nil {
				t.Error("a wrong password was taken")
			}
		})
	}
}

// login lets both sides talk until the client is done.
func login(client sarama.SCRAMClient, server *scram.ServerConversation, password string) error {
	if err := client.Begin("user", password, ""); err != nil {
		return err
	}
	said, err := client.Step("")
	for err == nil && !client.Done() {
		var answer string
		if answer, err = server.Step(said); err == nil {
			said, err = client.Step(answer)
		}
	}
	return err
}
