package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/engine/rpc"
	"callchain/test/program"
)

// TestClusterUpgrade: a node of the build before clusters is replaced by three nodes of this one, and these by the old one again. What waits, what is
// in flight and what is parked goes on each time. The two builds refuse to work side by side.
func TestClusterUpgrade(t *testing.T) {
	needsBinary(t)
	old := buildOf(t, *upgradeFrom)
	u := newUpgrade(t, old)
	u.run([]*node{u.old}, "old")
	u.refused(u.c.nodes[0], u.old)
	u.hand([]*node{u.old}, u.c.nodes, "new")
	u.refused(u.old, u.c.nodes[0])
	u.hand(u.c.nodes, []*node{u.old}, "old again")
	u.stop([]*node{u.old})
	u.verify(old)
	u.verify(binary)
}

// buildOf builds the binary of a commit; the test is skipped without the history.
func buildOf(t *testing.T, commit string) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	archive := exec.Command("git", "-C", root, "archive", commit)
	tar := exec.Command("tar", "-x", "-C", dir)
	var why, wrong bytes.Buffer
	archive.Stderr, tar.Stderr = &why, &wrong
	if tar.Stdin, err = archive.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tar.Start(), archive.Run(), tar.Wait()); err != nil {
		t.Skipf("NOT RUN: commit %s is not to be had, this test needs the history of the project: %s%s", commit, why.String(), wrong.String())
	}
	out := filepath.Join(dir, "callchain-"+commit)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", out, "./cmd/callchain")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", commit, err, text)
	}
	return out
}

// upgrade is an installation that is run by the old build and by the new one in turn.
type upgrade struct {
	t       *testing.T
	c       *cluster // the new nodes
	old     *node
	profile *client.Ref
	stages  int
	pending []*pending
}

// pending is what was begun under one build and must end under the next.
type pending struct {
	name   string
	device string
	token  string
	call   string // its id; of a run: the call that it made
	wire   string // as the device saw it; empty: it has not
}

func newUpgrade(t *testing.T, program string) *upgrade {
	c := newCluster(t, 3)
	u := &upgrade{t: t, c: c}
	p := *c.nodes[0].place // the same folder, the same name: this node is replaced
	p.program = program
	u.old = &node{place: &p}
	return u
}

// slowly is a chain in which a call waits before it is sent, and telemetry begins a run of two calls, one with the other's answer.
const slowly = `
name: slowly
nodes:
  - {name: kind, type: message type switch, to: {RPC Request to Device: wait, Post telemetry: first}}
  - {name: wait, type: delay, config: {periodInSeconds: 8}, to: {Success: send}}
  - {name: send, type: rpc call request}
  - {name: first, type: transform, config: {msg: '{"method": "first", "params": 1}'}, to: {Success: ask}}
  - {name: ask, type: rpc call request, config: {timeoutInSeconds: 120}, to: {Success: second}}
  - {name: second, type: transform, config: {msg: '{"method": "second", "params": msg}'}, to: {Success: tell}}
  - {name: tell, type: rpc call request, config: {timeoutInSeconds: 120}}
`

// run starts nodes for the first time, and begins what the next are to end.
func (u *upgrade) run(nodes []*node, build string) {
	u.t.Helper()
	u.start(nodes)
	chain, err := nodes[0].rest.CreateChain(u.t.Context(), []byte(slowly))
	if err != nil {
		u.t.Fatal(err)
	}
	p, err := nodes[0].rest.CreateProfile(u.t.Context(), "slowly", chain.ID, nil)
	if err != nil {
		u.t.Fatal(err)
	}
	u.profile = p.ID
	u.begin(nodes, build)
}

func (u *upgrade) start(nodes []*node) {
	u.t.Helper()
	for i, n := range nodes {
		n.server = launch(u.t, n.place)
		if u.c.token == "" {
			n.rest, u.c.token = u.firstLogin(n), ""
		} else {
			u.c.reach(n)
		}
		if i == 0 {
			u.c.serves(n)
		}
	}
	for _, n := range nodes {
		u.c.serves(n)
	}
	u.c.token = nodes[0].rest.Token()
	if len(nodes) > 1 {
		u.c.shared()
	}
}

// firstLogin waits until a new installation serves.
func (u *upgrade) firstLogin(n *node) *client.Client {
	u.t.Helper()
	select {
	case <-n.server.ready:
	case <-n.server.ended:
		u.t.Fatalf("%s ended: %s", n.name, n.server.log.afterSettings())
	case <-time.After(nodeReadyMax):
		u.t.Fatalf("%s is not ready", n.name)
	}
	return n.login(u.t)
}

func (u *upgrade) stop(nodes []*node) {
	u.t.Helper()
	for _, n := range nodes {
		if status := n.server.stop(); status != 0 {
			u.t.Errorf("%s ended with status %d", n.name, status)
		}
	}
}

// hand stops some nodes, starts others, and expects that what was begun goes on. Then the same is begun anew, for the next.
func (u *upgrade) hand(from, to []*node, build string) {
	u.t.Helper()
	u.stop(from)
	for _, program := range []string{u.old.program, binary} {
		u.verify(program)
	}
	u.start(to)
	u.finish(to, build)
	if !u.t.Failed() {
		u.begin(to, build)
	}
}

// verify checks the hashes with a build's own command.
func (u *upgrade) verify(program string) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, program, u.c.place.args("events", "verify", "--json")...).CombinedOutput(); err != nil {
		u.t.Errorf("events verify of %s: %v\n%s", program, err, out)
	}
}

// refused starts a node of one build beside one of the other: it must end by itself, with one line that says why.
func (u *upgrade) refused(n, beside *node) {
	u.t.Helper()
	p := *n.place
	p.data = u.t.TempDir()
	p.http, p.mqtt = program.TwoAddrs(u.t)
	p.flags = append(p.flags[:len(p.flags):len(p.flags)], "--node.id", "beside")
	s := launch(u.t, &p)
	select {
	case <-s.ended:
	case <-s.ready:
		u.t.Errorf("%s works beside %s", s.cmd.Path, beside.server.cmd.Path)
		s.kill()
		return
	case <-time.After(20 * time.Second):
		u.t.Errorf("%s neither works nor ends beside %s:\n%s", s.cmd.Path, beside.server.cmd.Path, s.log.afterSettings())
		s.kill()
		return
	}
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	last := lines[len(lines)-1]
	u.t.Logf("refused with status %d: %s", exitStatus(s.err), last)
	if exitStatus(s.err) != 1 || !strings.Contains(last, "another") {
		u.t.Errorf("refused with status %d: %s", exitStatus(s.err), last)
	}
	if err := beside.rest.Ready(u.t.Context()); err != nil {
		u.t.Errorf("after the other was refused: %v", err)
	}
}

// device makes one for a pending thing.
func (u *upgrade) device(n *node, kind string, profile *client.Ref) *pending {
	u.t.Helper()
	p := &pending{name: fmt.Sprintf("%s of stage %d", kind, u.stages), token: fmt.Sprintf("%s-%d", kind, u.stages)}
	d, err := n.rest.CreateDevice(u.t.Context(), client.Device{Name: p.token, Profile: profile}, p.token)
	if err != nil {
		u.t.Fatal(err)
	}
	p.device = d.ID.ID
	u.pending = append(u.pending, p)
	return p
}

// send makes a persistent call that lives long enough.
func (u *upgrade) send(n *node, p *pending) {
	u.t.Helper()
	answer, err := n.rest.Send(u.t.Context(), p.device, false, client.CallRequest{
		Method: "m", Params: json.RawMessage(`{"n":1}`), Persistent: true, Expires: time.Now().Add(10 * time.Minute).UnixMilli(),
	})
	if err != nil {
		u.t.Fatal(err)
	}
	p.call = answer.ID
}

// silent connects a device that keeps what it gets to itself.
func (u *upgrade) silent(n *node, p *pending) (f *fleet.Fleet, got chan fleet.Command) {
	u.t.Helper()
	got = make(chan fleet.Command, 8)
	f = fleet.New(fleet.Options{Addr: n.mqtt, QoS: 1, Answer: func(cmd fleet.Command) ([]byte, bool) {
		cmd.Payload = bytes.Clone(cmd.Payload)
		got <- cmd
		return nil, false
	}}, []string{p.token})
	if err := f.Connect(u.t.Context()); err != nil {
		u.t.Fatal(err)
	}
	return f, got
}

func (u *upgrade) next(p *pending, got <-chan fleet.Command) fleet.Command {
	u.t.Helper()
	select {
	case cmd := <-got:
		return cmd
	case <-time.After(20 * time.Second):
		u.t.Fatalf("%s: the device got nothing", p.name)
	}
	panic("unreachable")
}

// ended waits until a pending call has succeeded, with the wire id that its device saw.
func (u *upgrade) ended(n *node, p *pending, build string) {
	u.t.Helper()
	eventually(u.t, 30*time.Second, func() string {
		got, err := n.rest.Call(u.t.Context(), p.call)
		switch {
		case err != nil || got.Phase != rpc.PhaseSucceeded.String():
			return fmt.Sprintf("%s, under %s: call %s is %s, %v", p.name, build, p.call, got.Phase, err)
		case p.wire != "" && (got.Wire == nil || fmt.Sprint(*got.Wire) != p.wire):
			u.t.Errorf("%s, under %s: the wire id was %s and is %v", p.name, build, p.wire, got.Wire)
		}
		return ""
	})
}
