package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/examples"
)

// python is the interpreter that has paho-mqtt.
func python(t *testing.T) string {
	return interpreter(t, "foreign MQTT clients", "CALLCHAIN_TEST_PYTHON", "venv", "requirements.txt")
}

// interpreter is the Python that a variable names, or that of a folder in .run. Without it the test is skipped, and says so.
func interpreter(t *testing.T, who, variable, folder, requirements string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = "../../.run/" + folder + "/bin/python"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("NOT RUN: %s need %s: make it with scripts/venv.sh .run/%s test/%s", who, path, folder, requirements)
	}
	return path
}

// said is a line of devices.py or sdk_device.py.
type said struct {
	Event   string `json:"event"`
	ID      string `json:"id"`
	Payload string `json:"payload"`
	QoS     int    `json:"qos"`
	Reason  string `json:"reason"`
}

// pahoDevice is a running devices.py, or sdk_device.py in its place.
type pahoDevice struct {
	t     *testing.T
	lines chan said
	in    io.WriteCloser
}

func startPaho(t *testing.T, mqtt, token, version string, qos int) *pahoDevice {
	t.Helper()
	host, port, err := net.SplitHostPort(mqtt)
	if err != nil {
		t.Fatal(err)
	}
	return startDevice(t, python(t), "devices.py", host, port, token, version, fmt.Sprint(qos))
}

// startDevice starts a device that is driven by lines of JSON.
func startDevice(t *testing.T, interpreter, script string, args ...string) *pahoDevice {
	t.Helper()
	cmd := exec.Command(interpreter, append([]string{script}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &pahoDevice{t: t, lines: make(chan said, 1000), in: in}
	go func() {
		defer close(d.lines)
		for text := bufio.NewScanner(out); text.Scan(); {
			var s said
			if json.Unmarshal(text.Bytes(), &s) == nil {
				d.lines <- s
			}
		}
	}()
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", script, err)
		}
	})
	return d
}

// next waits for what the device says next.
func (d *pahoDevice) next(event string) said {
	d.t.Helper()
	select {
	case s, open := <-d.lines:
		if !open || s.Event != event {
			d.t.Fatalf("the device said %+v, not %q", s, event)
		}
		return s
	case <-time.After(15 * time.Second):
		d.t.Fatalf("the device did not say %q", event)
	}
	return said{}
}

func (d *pahoDevice) order(line string) {
	d.t.Helper()
	if _, err := io.WriteString(d.in, line+"\n"); err != nil {
		d.t.Fatal(err)
	}
}

// TestPaho lets paho-mqtt be the device, in each version of MQTT and at each QoS.
func TestPaho(t *testing.T) {
	needsBinary(t)
	python(t)
	server := start(t, newPlace(t))
	rest := server.login(t)
	chain, err := rest.CreateChain(t.Context(), examples.GetTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rest.CreateProfile(t.Context(), "clocks", chain.ID, nil); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"3.1", "3.1.1", "5"} {
		for _, qos := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s/QoS %d", version, qos), func(t *testing.T) {
				token := fmt.Sprintf("paho-%s-%d", version, qos)
				d, err := rest.CreateDevice(t.Context(), client.Device{Name: token, Type: "clocks"}, token)
				if err != nil {
					t.Fatal(err)
				}
				p := &pahoCase{t: t, rest: rest, id: d.ID.ID, qos: qos, device: startPaho(t, server.mqtt, token, version, qos)}
				p.device.next("ready")
				p.twoWay()
				p.oneWay()
				p.persistent()
				p.deviceCalls()
			})
		}
	}
}

type pahoCase struct {
	t      *testing.T
	rest   *client.Client
	id     string
	qos    int
	device *pahoDevice
}

// command expects the next call at the device, with its wire id: they count up from 0.
func (p *pahoCase) command(wire, payload string) {
	p.t.Helper()
	if s := p.device.next("call"); s.ID != wire || s.Payload != payload || s.QoS != p.qos {
		p.t.Errorf("the device got %+v, want id %s, payload %s, QoS %d", s, wire, payload, p.qos)
	}
}

func (p *pahoCase) twoWay() {
	p.t.Helper()
	answer, err := p.rest.Send(p.t.Context(), p.id, false, client.CallRequest{Method: "set", Params: json.RawMessage(`{"a":1}`)})
	if err != nil || string(answer.Body) != `{"echo":{"a":1},"method":"set"}` {
		p.t.Fatalf("two-way: %s, %v", answer.Body, err)
	}
	p.command("0", `{"method":"set","params":{"a":1}}`)
}

func (p *pahoCase) oneWay() {
	p.t.Helper()
	p.device.order(`{"quiet": true}`)
	p.device.next("quiet")
	answer, err := p.rest.Send(p.t.Context(), p.id, true, client.CallRequest{Method: "beep", Params: json.RawMessage(`"now"`)})
	if err != nil || len(answer.Body) != 0 {
		p.t.Fatalf("one-way: %s, %v", answer.Body, err)
	}
	p.command("1", `{"method":"beep","params":"now"}`)
	p.device.order(`{"quiet": false}`)
	p.device.next("quiet")
	evidence := "puback"
	if p.qos == 0 {
		evidence = "written"
	}
	p.ended(answer.ID, "succeeded", evidence)
}

func (p *pahoCase) persistent() {
	p.t.Helper()
	answer, err := p.rest.Send(p.t.Context(), p.id, false, client.CallRequest{Method: "update", Params: json.RawMessage(`[2,1]`), Persistent: true})
	if err != nil {
		p.t.Fatal(err)
	}
	if want := `{"rpcId":"` + answer.ID + `"}`; string(answer.Body) != want {
		p.t.Errorf("persistent: the body is %s, want %s", answer.Body, want)
	}
	p.command("2", `{"method":"update","params":[2,1]}`)
	call := p.ended(answer.ID, "succeeded", "")
	if call.Response.String() != `{"echo":[2,1],"method":"update"}` {
		p.t.Errorf("persistent: the stored answer is %s", call.Response)
	}
}

// ended waits for the end of a call and looks for the evidence of its delivery.
func (p *pahoCase) ended(id, phase, evidence string) client.Call {
	p.t.Helper()
	var call client.Call
	eventually(p.t, 10*time.Second, func() string {
		var err error
		if call, err = p.rest.Call(p.t.Context(), id); err != nil {
			return err.Error()
		}
		if call.Phase != phase {
			return "the call is " + call.Phase
		}
		return ""
	})
	if evidence == "" {
		return call
	}
	events, err := p.rest.Events(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == "Delivered" {
			if want := `{"evidence":"` + evidence + `"}`; string(e.Data) != want {
				p.t.Errorf("the delivery has %s, want %s", e.Data, want)
			}
			return call
		}
	}
	p.t.Errorf("call %s has no Delivered", id)
	return call
}

func (p *pahoCase) deviceCalls() {
	p.t.Helper()
	p.device.order(`{"call": "getTime", "id": 7, "params": {}}`)
	s := p.device.next("answer")
	var answer struct {
		Time int64 `json:"time"`
	}
	if err := json.Unmarshal([]byte(s.Payload), &answer); err != nil || s.ID != "7" {
		p.t.Fatalf("the device's call was answered with %+v: %v", s, err)
	}
	if off := time.Since(time.UnixMilli(answer.Time)); off < -time.Minute || off > time.Minute {
		p.t.Errorf("the chain's time is off by %s", off)
	}
}
