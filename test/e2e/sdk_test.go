package e2e_test

import (
	"encoding/json"
	"net"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/examples"
)

// TestDeviceSDK lets ThingsBoard's device SDK, unmodified, take calls and make them, over MQTT and over HTTP.
func TestDeviceSDK(t *testing.T) {
	needsBinary(t)
	sdk := interpreter(t, "tests with ThingsBoard's device SDK", "CALLCHAIN_TEST_SDK_PYTHON", "venv-sdk", "requirements-sdk.txt")
	server := start(t, newPlace(t))
	rest := server.login(t)
	chain, err := rest.CreateChain(t.Context(), examples.GetTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rest.CreateProfile(t.Context(), "clocks", chain.ID, nil); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(server.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	for kind, where := range map[string][]string{"mqtt": {host, port}, "http": {rest.Base(), "-"}} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			token := "sdk-" + kind
			d, err := rest.CreateDevice(t.Context(), client.Device{Name: token, Type: "clocks"}, token)
			if err != nil {
				t.Fatal(err)
			}
			c := &sdkCase{pahoCase{t: t, rest: rest, id: d.ID.ID}}
			waiting := c.store("early")
			c.device = startDevice(t, sdk, "sdk_device.py", append([]string{kind}, append(where, token)...)...)
			c.device.next("ready")
			c.taken("0", "early", waiting)
			c.twoWay()
			c.taken("2", "late", c.store("late"))
			c.oneWay("3")
			c.asks()
		})
	}
}

// sdkCase is a device on the SDK. It expects the calls with the wire ids 0 to 3.
type sdkCase struct{ pahoCase }

// store makes a persistent call and gives its id.
func (c *sdkCase) store(method string) string {
	c.t.Helper()
	answer, err := c.rest.Send(c.t.Context(), c.id, false, client.CallRequest{Method: method, Params: json.RawMessage(`[2,1]`), Persistent: true})
	if err != nil {
		c.t.Fatal(err)
	}
	return answer.ID
}

func (c *sdkCase) called(wire, payload string) {
	c.t.Helper()
	if s := c.device.next("call"); s.ID != wire || s.Payload != payload {
		c.t.Errorf("the SDK gave its user %+v, want id %s, payload %s", s, wire, payload)
	}
}

// taken expects a stored call at the device, and its answer at the call.
func (c *sdkCase) taken(wire, method, id string) {
	c.t.Helper()
	c.called(wire, `{"method":"`+method+`","params":[2,1]}`)
	if call := c.ended(id, "succeeded", ""); call.Response.String() != `{"echo":[2,1],"method":"`+method+`"}` {
		c.t.Errorf("the stored answer is %s", call.Response)
	}
}

func (c *sdkCase) twoWay() {
	c.t.Helper()
	answer, err := c.rest.Send(c.t.Context(), c.id, false, client.CallRequest{Method: "set", Params: json.RawMessage(`{"a":1}`)})
	if err != nil || string(answer.Body) != `{"echo":{"a":1},"method":"set"}` {
		c.t.Fatalf("two-way: %s, %v", answer.Body, err)
	}
	c.called("1", `{"method":"set","params":{"a":1}}`)
}

func (c *sdkCase) oneWay(wire string) {
	c.t.Helper()
	c.device.order(`{"quiet": true}`)
	c.device.next("quiet")
	answer, err := c.rest.Send(c.t.Context(), c.id, true, client.CallRequest{Method: "beep", Params: json.RawMessage(`"now"`)})
	if err != nil || len(answer.Body) != 0 {
		c.t.Fatalf("one-way: %s, %v", answer.Body, err)
	}
	c.called(wire, `{"method":"beep","params":"now"}`)
	c.ended(answer.ID, "succeeded", "")
}

// asks lets the device call the server, whose chain answers with the time.
func (c *sdkCase) asks() {
	c.t.Helper()
	c.device.order(`{"call": "getTime", "params": {"zone": "UTC"}}`)
	s := c.device.next("answer")
	var answer struct {
		Time int64 `json:"time"`
	}
	if err := json.Unmarshal([]byte(s.Payload), &answer); err != nil {
		c.t.Fatalf("the device's call was answered with %+v: %v", s, err)
	}
	if off := time.Since(time.UnixMilli(answer.Time)); off < -time.Minute || off > time.Minute {
		c.t.Errorf("the chain's time is off by %s", off)
	}
}
