package command

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"callchain/chains"
	"callchain/nodes"
	"callchain/nodes/builtin"
	"callchain/nodes/script/goja"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

func (a *app) chain() *cobra.Command {
	return group("chain", "Check and try rule chains, bring them over from ThingsBoard",
		"Check rule chain files, and try what they do with a message: no server is needed. Bring chains over from ThingsBoard and back.",
		a.chainLint(), a.chainTest(), a.chainRun(), a.serverFlags(a.chainImport()), a.serverFlags(a.chainExport()))
}

// kinds are all kinds of nodes; scripts run as in a server that sets nothing else.
func kinds() nodes.Registry { return builtin.WithScripts(goja.New(0)) }

func (a *app) chainLint() *cobra.Command {
	return &cobra.Command{
		Use: "lint FILE…", Short: "Check chain files and tell every mistake", Args: args(1, -1),
		Long: "Check chain files as the server does. Every mistake is told with file:line:column and the mend. Exit status 1 if there is any.\n" +
			"Tests beside chains (*.test.yaml) are passed over; \"chain test\" runs them.",
		Example: "  callchain chain lint chains/*.yaml",
		RunE: func(_ *cobra.Command, files []string) error {
			problems, checked := chains.Problems{}, 0
			for _, file := range files {
				if _, tests := chains.SuiteOf(file); tests {
					continue
				}
				checked++
				text, err := readChain(file)
				if err != nil {
					return err
				}
				problems = append(problems, chains.Lint(file, text, kinds())...)
			}
			return a.printProblems(checked, problems)
		},
	}
}

func readChain(file string) ([]byte, error) { return readFile(file, chains.BytesMax) }

func readFile(file string, most int64) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("reading the chain: %w", err)
	}
	if info.Size() > most {
		return nil, fmt.Errorf("reading the chain: %s has %d bytes, more than %d", file, info.Size(), most)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the chain: %w", err)
	}
	return text, nil
}

func (a *app) printProblems(files int, problems chains.Problems) error {
	switch {
	case a.json:
		if err := a.printJSON(map[string]any{"files": files, "problems": problems}); err != nil {
			return err
		}
	case len(problems) == 0:
		a.printf("%d files, no mistakes\n", files)
	default:
		a.printf("%s\n%d mistakes\n", problems.Error(), len(problems))
	}
	if len(problems) > 0 {
		return errSilent
	}
	return nil
}

// runFlags are the flags of "chain run".
type runFlags struct {
	message, kind, answer string
	metadata, values      []string
}

func (a *app) chainRun() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use: "run FILE", Short: "Send one message through a chain and show each node", Args: args(1, 1),
		Long: `Send one message through a chain, dry: nothing is sent or stored, waits are over at once, and what the chain would do to the world is
printed. Attributes and latest values that it reads are given with --value scope/name=JSON (scope: client, shared, server, latest).`,
		Example: `  callchain chain run examples/chains/cooldown.yaml --type POST_TELEMETRY_REQUEST --message '{"temperature":91}' --answer '{"ok":true}'
  callchain chain run examples/chains/gettime.yaml --type TO_SERVER_RPC_REQUEST --message '{"method":"getTime","params":{}}'`,
	}
	c.Flags().StringVar(&f.message, "message", "{}", "the message's data, JSON")
	c.Flags().StringVar(&f.kind, "type", nodes.PostTelemetry, "the message's type")
	c.Flags().StringArrayVar(&f.metadata, "metadata", nil, "name=value, beside the data")
	c.Flags().StringArrayVar(&f.values, "value", nil, "shared/limit=80: a stored value that the chain reads")
	c.Flags().StringVar(&f.answer, "answer", "", "JSON that devices answer to calls of the chain; without it they do not answer")
	c.RunE = func(_ *cobra.Command, args []string) error {
		text, err := readChain(args[0])
		if err != nil {
			return err
		}
		d, err := chains.Parse(args[0], text)
		if err != nil {
			return err
		}
		program, err := chains.Compile(d, kinds(), uuid.Nil, 1)
		if err != nil {
			return err
		}
		t := &trial{app: a, device: uuid.New(), answer: f.answer}
		m, err := t.prepare(&f)
		if err != nil {
			return err
		}
		return t.finish(program.Run(t.env(), m))
	}
	return c
}

// trial is a dry run.
type trial struct {
	app    *app
	device uuid.UUID
	answer string
	values nodes.Values
	steps  []map[string]any
	asked  []string
}

func (t *trial) prepare(f *runFlags) (nodes.Msg, error) {
	now := time.Now()
	m := nodes.Msg{
		ID: uuid.New(), TS: now.UnixMilli(), Now: now.UnixMicro(), Type: f.kind,
		Originator: nodes.Entity{Type: nodes.Device, ID: t.device}, Data: nodes.Raw([]byte(f.message)),
		Metadata: nodes.Metadata{
			"deviceName": "device", "deviceType": "default", "ts": fmt.Sprint(now.UnixMilli()),
			"requestId": "1", "sessionId": uuid.NewString(), "serviceId": "dry-run",
		},
	}
	if !json.Valid([]byte(f.message)) {
		return m, wrongUse("--message must be JSON, is %q", f.message)
	}
	if f.answer != "" && !json.Valid([]byte(f.answer)) {
		return m, wrongUse("--answer must be JSON, is %q", f.answer)
	}
	for _, pair := range f.metadata {
		name, value, found := strings.Cut(pair, "=")
		if !found {
			return m, wrongUse("--metadata must be name=value, is %q", pair)
		}
		m = m.WithMetadata(name, value)
	}
	t.values = nodes.Values{}
	for _, text := range f.values {
		key, value, err := t.value(text)
		if err != nil {
			return m, err
		}
		value.TS = m.TS
		t.values[key] = value
	}
	return m, nil
}

func (t *trial) value(text string) (nodes.Key, nodes.Value, error) {
	scopes := map[string]string{"client": nodes.ClientScope, "shared": nodes.SharedScope, "server": nodes.ServerScope, "latest": ""}
	place, value, found := strings.Cut(text, "=")
	scope, name, slash := strings.Cut(place, "/")
	stored, known := scopes[scope]
	if !found || !slash || !known || !json.Valid([]byte(value)) {
		return nodes.Key{}, nodes.Value{}, wrongUse("--value must be like shared/limit=80 (client, shared, server or latest; JSON), is %q", text)
	}
	return nodes.Key{Entity: nodes.Entity{Type: nodes.Device, ID: t.device}, Scope: stored, Name: name}, nodes.Value{JSON: []byte(value)}, nil
}

func (t *trial) env() chains.Env {
	return chains.Env{
		Chain: func(uuid.UUID) *chains.Program { return nil }, Default: func(nodes.Entity) *chains.Program { return nil },
		Read: func([]nodes.Key) (nodes.Values, bool) { return t.values, true }, NewID: uuid.New,
		Ask: t.ask, Trace: t.trace,
	}
}

// ask plays the world: waits are over at once, devices answer as they were told to.
func (t *trial) ask(_ nodes.Msg, ask nodes.Ask, at chains.Place, _ bool) (nodes.Answer, chains.Disposition) {
	note := func(format string, args ...any) {
		t.asked = append(t.asked, fmt.Sprintf("%s: ", at.Node)+fmt.Sprintf(format, args...))
	}
	switch ask := ask.(type) {
	case nodes.CallDevice:
		note("calls the device: %s %s", ask.Method, ask.Params)
		if t.answer == "" && !ask.Oneway {
			return nodes.CallEnded{Error: "TIMEOUT"}, chains.Now
		}
		return nodes.CallEnded{Body: []byte(t.answer)}, chains.Now
	case nodes.ReplyCall:
		note("answers the device's call: %s", ask.Body)
		return nodes.Replied{}, chains.Now
	case nodes.Wait:
		note("waits %s", ask.For)
		return nodes.Waited{}, chains.Now
	}
	return nil, chains.Drop
}

func (t *trial) trace(e chains.TraceEntry) {
	in, err := e.In.Data.Bytes()
	if err != nil {
		in = []byte(err.Error())
	}
	if t.app.json {
		t.steps = append(t.steps, map[string]any{
			"node": e.Node, "type": e.In.Type, "in": string(in), "relation": e.Relation, "error": e.Error, "resumed": e.Resumed,
		})
		return
	}
	line := strings.Repeat("  ", e.Depth) + e.Node
	switch {
	case e.Relation != "":
		line += " —" + e.Relation + "→"
	case e.Resumed:
		line += " goes on"
	}
	t.app.printf("%-40s %s %s", line, e.In.Type, clip(string(in), 100))
	if e.Error != "" {
		t.app.printf("  error: %s", e.Error)
	}
	t.app.printf("\n")
}

func (t *trial) finish(r chains.Result) error {
	var writes, logs, failures []string
	for _, w := range r.Writes {
		scope := w.Key.Scope
		if scope == "" {
			scope = "latest value"
		}
		writes = append(writes, fmt.Sprintf("%s %s = %s", scope, w.Key.Name, w.Value.JSON))
	}
	for _, l := range r.Logs {
		logs = append(logs, l.Text)
	}
	for _, f := range r.Failures {
		failures = append(failures, f.Node+": "+f.Error)
	}
	if t.app.json {
		return t.app.printJSON(map[string]any{
			"steps": t.steps, "asks": t.asked, "writes": writes, "logs": logs, "failures": failures, "executions": r.Steps,
		})
	}
	for _, part := range []struct {
		name  string
		lines []string
	}{{"does", t.asked}, {"stores", writes}, {"logs", logs}, {"fails", failures}} {
		for _, line := range part.lines {
			t.app.printf("%s  %s\n", part.name, line)
		}
	}
	t.app.printf("%d node executions\n", r.Steps)
	return nil
}
