package e2e_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/transports/mqtt/mqttclient"
)

// tapedDevice is an MQTT device that does what the recording's device did.
type tapedDevice struct {
	t      *testing.T
	client *mqttclient.Client
	topics [2]string                                    // of requests and responses, without the id
	answer atomic.Pointer[func(payload string) *string] // nil: it stays silent
	calls  chan tapedCall
}

type tapedCall struct{ id, payload string }

var (
	longTopics  = [2]string{"v1/devices/me/rpc/request/", "v1/devices/me/rpc/response/"}
	shortTopics = [2]string{"v2/r/req/", "v2/r/res/"}
)

func connectTaped(t *testing.T, addr, token string, qos byte) *tapedDevice {
	t.Helper()
	return connectAs(t, addr, mqttclient.Options{Token: token, ClientID: "taped-" + token}, longTopics, qos)
}

func connectAs(t *testing.T, addr string, o mqttclient.Options, topics [2]string, qos byte) *tapedDevice {
	t.Helper()
	d := &tapedDevice{t: t, topics: topics, calls: make(chan tapedCall, 100)}
	o.OnPublish = d.take
	var err error
	d.client, err = mqttclient.Connect(t.Context(), addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.client.Close)
	if _, err := d.client.Subscribe(t.Context(), mqttclient.Filter{Topic: topics[0] + "+", QoS: qos}); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *tapedDevice) take(_ *mqttclient.Client, m mqttclient.Message) {
	call := tapedCall{strings.TrimPrefix(string(m.Topic), d.topics[0]), string(m.Payload)}
	if answer := d.answer.Load(); answer != nil {
		if text := (*answer)(call.payload); text != nil {
			d.reply(call.id, *text)
		}
	}
	d.calls <- call
}

func (d *tapedDevice) reply(id, text string) {
	if err := d.client.Publish(d.topics[1]+id, []byte(text), 1, nil); err != nil {
		d.t.Error(err)
	}
}

// says lets the device answer every call so from now on.
func (d *tapedDevice) says(answer func(payload string) *string) { d.answer.Store(&answer) }

func (d *tapedDevice) always(text string) { d.says(func(string) *string { return &text }) }

func (d *tapedDevice) echoes() { d.says(func(payload string) *string { return &payload }) }

func (d *tapedDevice) silent() { d.answer.Store(nil) }

// next waits for the next call.
func (d *tapedDevice) next() tapedCall {
	d.t.Helper()
	select {
	case c := <-d.calls:
		return c
	case <-time.After(10 * time.Second):
		d.t.Fatal("the device got no call")
	}
	return tapedCall{}
}

// TestRecorded replays what was recorded of a ThingsBoard server: every answer is the same, or the difference is listed with its reason.
func TestRecorded(t *testing.T) {
	needsBinary(t)
	server := start(t, newPlace(t,
		"--sysadmin.email", "sys@e2e.test", "--sysadmin.password", "sys-password", "--rpc.client_side_timeout", "3s"))
	r := tape(t, server)
	var all sync.WaitGroup
	defer all.Wait()
	for _, n := range append(through(1, 37), through(67, 71)...) { // these wait for their deadlines, or for nothing
		all.Go(func() { r.copy().replay(t, n) })
	}
	all.Go(func() { t.Run("device API over HTTP", r.copy().overHTTP) })
	all.Go(func() { t.Run("sessions", r.copy().sessions) })
	online := connectTaped(t, server.mqtt, "online", 1)
	all.Go(func() { r.copy().online(t, online, through(38, 54), through(55, 65)) })
	r.copy().persistent(t, through(72, 97))
}

func through(from, to int) (out []int) {
	for n := from; n <= to; n++ {
		out = append(out, n)
	}
	return out
}

// tape prepares the devices and tokens that the recording names.
func tape(t *testing.T, server *process) *recorded {
	t.Helper()
	rest := server.login(t)
	sys, err := client.New(rest.Base(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sys.Login(t.Context(), "sys@e2e.test", "sys-password"); err != nil {
		t.Fatal(err)
	}
	token := rest.Token()
	last := "A"
	if strings.HasSuffix(token, last) {
		last = "Q"
	}
	r := &recorded{process: server, exchanges: readExchanges(t)}
	r.names = []string{"<tenant>", token, "<sysadmin>", sys.Token(), "<altered>", token[:len(token)-1] + last}
	r.device(t, rest, client.Device{Name: "http"}, "REC_HTTP")
	r.device(t, rest, client.Device{Name: "http-2", Type: replies(t, rest)}, "REC2_HTTP")
	for _, name := range []string{"offline", "online", "silent", "persist", "unassigned", "online-2"} {
		r.device(t, rest, client.Device{Name: name}, name)
	}
	var user struct {
		Tenant struct{ ID string } `json:"tenantId"`
	}
	if err := rest.Do(t.Context(), "GET", "/api/auth/user", nil, &user); err != nil {
		t.Fatal(err)
	}
	r.names = append(r.names, "<tenant-id>", user.Tenant.ID)
	connectTaped(t, server.mqtt, "silent", 1)
	return r
}

func (r *recorded) device(t *testing.T, rest *client.Client, d client.Device, token string) {
	t.Helper()
	made, err := rest.CreateDevice(t.Context(), d, token)
	if err != nil {
		t.Fatal(err)
	}
	r.names = append(r.names, "<"+d.Name+">", made.ID.ID)
}

// copy learns ids for itself.
func (r *recorded) copy() *recorded {
	return &recorded{r.process, r.exchanges, slices.Clone(r.names)}
}

// online replays the calls to a device that echoes, then to one that answers what the titles say.
func (r *recorded) online(t *testing.T, d *tapedDevice, echoed, said []int) {
	d.echoes()
	r.replay(t, echoed...)
	for _, n := range said {
		text, _ := strings.CutPrefix(r.exchanges[n].title, "device answers ")
		d.always(text)
		r.replay(t, n)
	}
	r.replay(t, 66)
}

// persistent replays the life of stored calls, with a device that comes late.
func (r *recorded) persistent(t *testing.T, offline []int) {
	t.Helper()
	r.replay(t, offline...)
	r.settles(t, 98) // it has expired
	d := connectTaped(t, r.mqtt, "persist", 1)
	first, second := d.next(), d.next()
	r.settles(t, 99)
	r.settles(t, 100)
	d.reply(second.id, `{"done":2}`)
	r.settles(t, 101)
	d.reply(first.id, `{"done":1}`)
	r.settles(t, 102)
	r.replay(t, 103)
	call := d.next()
	r.settles(t, 104)
	d.reply(call.id, "not json")
	r.settles(t, 105)
	r.replay(t, 106)
	d.next()
	r.settles(t, 107)
	d.always(`{"error":"device failed"}`)
	r.replay(t, 108)
	d.next()
	r.settles(t, 109)
	d.silent()
	r.replay(t, 110, 111)
	d.next()
	r.settles(t, 112)
	r.replay(t, 113)
	d.client.Close()
	<-d.client.Done()
	connectTaped(t, r.mqtt, "persist", 0)
	r.replay(t, 114)
	r.settles(t, 115)
	r.replay(t, 116)
	r.settles(t, 117)
}
