package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/settings"
	"callchain/engine/bus"
	"callchain/engine/bus/kafkatest"
	"callchain/eventstore/pgtest"
	"callchain/registry"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
)

// nodesOnKafka gives settings for servers on one database and topics of their own. The topics are removed with the test.
func nodesOnKafka(t *testing.T) (of func(node string) settings.Settings, topics *kafkatest.Topics) {
	t.Helper()
	topics, database := kafkatest.New(t), pgtest.Database(t)
	return func(node string) settings.Settings {
		return load(t, t.TempDir(), map[string]string{
			"bus.kafka.brokers": topics.Broker, "bus.kafka.prefix": topics.Prefix, "store.url": database, "node.id": node, "partitions": "4", "auth.key": strings.Repeat("1a", 32),
		})
	}, topics
}

// records hands over what is on partition 0 of a topic, from its beginning.
func records(t *testing.T, topic string) <-chan *sarama.ConsumerMessage {
	t.Helper()
	c, err := sarama.NewConsumer([]string{os.Getenv(kafkatest.Variable)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
	return p.Messages()
}

// TestRegistryAcrossNodes: a change that a server makes is on the topic of the registry, with its node; one that another process makes reaches this one, and
// ends the session of a device whose credentials it changed.
func TestRegistryAcrossNodes(t *testing.T) {
	of, topics := nodesOnKafka(t)
	server, c := run(t, of("here"))
	id, f := device(t, server, c, "d", "default")
	there, _ := run(t, of("there"))
	known, err := server.registry.Facts(t.Context(), mustUUID(t, id))
	if err != nil {
		t.Fatal(err)
	}
	tenant := known.Device.Tenant
	look := time.NewTicker(500 * time.Millisecond) // the followers begin at some moment
	defer look.Stop()
	for n := 0; f.Stats().Online > 0; n++ {
		if n == 40 {
			t.Fatal("the device is still connected with credentials that another process has changed")
		}
		credentials, err := there.registry.Credentials(t.Context(), tenant, mustUUID(t, id))
		if err != nil {
			t.Fatal(err)
		}
		credentials.ID = fmt.Sprint("another-", n)
		if _, err := there.registry.SaveCredentials(t.Context(), tenant, credentials); err != nil {
			t.Fatal(err)
		}
		<-look.C
	}
	// What is held in memory is read anew, too.
	d := known.Device
	d.Label = "from there"
	if _, err := there.registry.SaveDevice(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	wantChange(t, records(t, topics.Prefix+string(bus.Registry)), "there", registry.DeviceUpdated, d.ID)
	until(t, func() bool {
		now, err := server.registry.Facts(t.Context(), d.ID)
		return err == nil && now.Device.Label == d.Label
	}, "this server does not see what another process has changed")
}

// TestMissedChangesAreFoundOut: a change of which the topic says nothing is found out by looking, as a node does when it begins to follow the topic and now and
// then.
func TestMissedChangesAreFoundOut(t *testing.T) {
	of, _ := nodesOnKafka(t)
	server, c := run(t, of("here"))
	changed, f := device(t, server, c, "changed", "default")
	deleted, g := device(t, server, c, "deleted", "default")
	_, same := device(t, server, c, "same", "default")
	key, err := registry.ParseKey(strings.Repeat("1a", 32))
	if err != nil {
		t.Fatal(err)
	}
	silent, db, err := registry.OpenPostgres(t.Context(), of("there").Store.URL.Reveal(), registry.Options{Partitions: 4, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tenant := server.first.Tenant.ID
	credentials, err := silent.Credentials(t.Context(), tenant, mustUUID(t, changed))
	if err != nil {
		t.Fatal(err)
	}
	credentials.ID = "another"
	_, err = silent.SaveCredentials(t.Context(), tenant, credentials)
	if err := errors.Join(err, silent.DeleteDevice(t.Context(), tenant, mustUUID(t, deleted))); err != nil {
		t.Fatal(err)
	}
	if f.Stats().Online+g.Stats().Online != 2 {
		t.Fatal("the server has heard of the changes")
	}
	signal(server.doubt)
	until(t, func() bool { return f.Stats().Online+g.Stats().Online == 0 }, "devices are still connected that have other credentials, or are deleted")
	if same.Stats().Online != 1 {
		t.Error("a device was cut off whose credentials are the same")
	}
}

// TestChangesLeftBehind: a process changes credentials and ends before it could tell anybody. A server that runs ends the device's session in its place, and
// tells the others.
func TestChangesLeftBehind(t *testing.T) {
	of, topics := nodesOnKafka(t)
	server, c := run(t, of("here"))
	id, f := device(t, server, c, "d", "default")
	key, err := registry.ParseKey(strings.Repeat("1a", 32))
	if err != nil {
		t.Fatal(err)
	}
	ended, db, err := registry.OpenPostgres(t.Context(), of("there").Store.URL.Reveal(), registry.Options{
		Partitions: 4, Key: key, Shared: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	credentials, err := ended.Credentials(t.Context(), server.first.Tenant.ID, mustUUID(t, id))
	if err != nil {
		t.Fatal(err)
	}
	credentials.ID = "another"
	if _, err := ended.SaveCredentials(t.Context(), server.first.Tenant.ID, credentials); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `UPDATE registry_outbox SET at = at - 60000000`); err != nil { // a minute ago
		t.Fatal(err)
	}
	until(t, func() bool { return f.Stats().Online == 0 }, "the device is still connected with credentials that a process has changed before it ended")
	wantChange(t, records(t, topics.Prefix+string(bus.Registry)), "here", registry.CredentialsChanged, mustUUID(t, id))
	until(t, func() bool {
		left := -1
		return db.QueryRowContext(t.Context(), `SELECT count(*) FROM registry_outbox`).Scan(&left) == nil && left == 0
	}, "what was told is still in the outbox")
}

// wantChange waits for a change on the topic of the registry.
func wantChange(t *testing.T, from <-chan *sarama.ConsumerMessage, node string, kind registry.ChangeKind, device uuid.UUID) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case m := <-from:
			var c registry.Change
			if err := json.Unmarshal(m.Value, &c); err != nil {
				t.Fatalf("%s: %v", m.Value, err)
			}
			headers := map[string]string{}
			for _, h := range m.Headers {
				headers[string(h.Key)] = string(h.Value)
			}
			if c.Kind == kind && c.Device == device && headers[headerNode] == node && headers["kind"] == string(kind) && string(m.Key) == c.Tenant.String() {
				return
			}
			t.Logf("%s with %v", m.Value, headers)
		case <-late:
			t.Fatalf("%s of %s is not on the topic", kind, device)
		}
	}
}

// TestLargestCommandsLeaveEvents: where the topic of events takes less than the inbox, the largest calls that are accepted have events that fit.
func TestLargestCommandsLeaveEvents(t *testing.T) {
	of, topics := nodesOnKafka(t)
	const most = 100_000
	small := fmt.Sprint(most)
	detail := &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1, ConfigEntries: map[string]*string{"max.message.bytes": &small}}
	if err := topics.Admin.CreateTopic(topics.Prefix+string(bus.Events), detail, false); err != nil {
		t.Fatal(err)
	}
	server, c := run(t, of("here"))
	id, _ := device(t, server, c, "d", "default")
	for _, letter := range []string{"a", "<", "é", `\"`, `\u0001`} {
		refused := sort.Search(most, func(n int) bool {
			if n < most/2 {
				return false
			}
			params := json.RawMessage(`"` + strings.Repeat(letter, n/len(letter)) + `"`)
			_, err := c.Send(t.Context(), id, true, client.CallRequest{Method: "m", Params: params, Persistent: true})
			if err != nil && client.StatusOf(err) != 413 {
				t.Fatalf("%d bytes: %v", n, err)
			}
			return err != nil
		})
		t.Logf("%s: %d bytes are refused", letter, refused)
		if refused < most*3/4 || refused == most {
			t.Errorf("%s: %d bytes are refused, the topic of events takes %d", letter, refused, most)
		}
	}
	until(t, func() bool { return measured(t, server, "callchain_relay_waiting_events") == 0 }, "not all events are published")
	if n := measured(t, server, `callchain_unpublished_total{reason="refused",topic="callchain.events"}`); n != 0 {
		t.Errorf("%v events of accepted commands do not fit the topic", n)
	}
}
