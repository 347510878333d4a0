package dryrun

import (
	"fmt"
	"slices"
	"strings"

	"callchain/chains"
	"callchain/nodes"

	"github.com/google/uuid"
)

// Suite is a file of tests beside a chain.
type Suite struct {
	Tests []Test `json:"tests" required:"true" min:"1" max:"1000" doc:"The tests."`
}

// Test is a message and what is to become of it. Of Want only what is given is compared.
type Test struct {
	Name     string            `json:"name" required:"true" doc:"What the test shows."`
	Type     string            `json:"type" required:"true" doc:"Type of the message."`
	Data     any               `json:"data" doc:"Data of the message."`
	Metadata map[string]string `json:"metadata" doc:"Metadata of the message."`
	TS       int64             `json:"ts" doc:"Time of the message in milliseconds; it is taken at this time, too."`
	Values   []Stored          `json:"values" doc:"Stored values of the device."`
	Answers  map[string]Ended  `json:"answers" doc:"How calls end, by the node that makes them."`
	Want     Want              `json:"want" doc:"What is expected."`
}

// Stored is a stored value.
type Stored struct {
	Scope string `json:"scope" enum:"|CLIENT_SCOPE|SHARED_SCOPE|SERVER_SCOPE" default:"" doc:"Scope of an attribute; left out for a time series."`
	Name  string `json:"name" required:"true" doc:"Its key."`
	Value any    `json:"value" required:"true" doc:"Its value."`
}

// Ended is the end of a call.
type Ended struct {
	Body  any    `json:"body" doc:"What the device answers."`
	Error string `json:"error" doc:"ThingsBoard's error instead: TIMEOUT, NO_ACTIVE_CONNECTION, …"`
}

// Want are the lists of a Report that a test compares; what is left out is not compared.
type Want struct {
	Path     *[]string `json:"path" doc:"Names of the nodes that run, in order."`
	Asks     *[]string `json:"asks" doc:"What the chain asks: \"node: question\"."`
	Writes   *[]string `json:"writes" doc:"What is stored: \"SCOPE name = JSON\"."`
	Logs     *[]string `json:"logs" doc:"Lines of log nodes."`
	Failures *[]string `json:"failures" doc:"Failures that no node handles; none if left out."`
	Waiting  *[]string `json:"waiting" doc:"Nodes that wait for an answer that the test does not give."`
}

// ParseSuite reads a file of tests (YAML or JSON).
func ParseSuite(file string, data []byte) (Suite, error) {
	v, err := chains.ParseValue(file, data)
	if err != nil {
		return Suite{}, err
	}
	o, ok := v.(map[string]any)
	if !ok {
		return Suite{}, fmt.Errorf(`%s: the file must be an object with the key "tests"`, file)
	}
	s, err := nodes.Decode[Suite](o)
	if err != nil {
		return Suite{}, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// device is the originator of all test messages.
var device = nodes.Entity{Type: nodes.Device, ID: uuid.MustParse("00000000-0000-4000-8000-000000000001")}

// Run runs one test and tells how the outcome differs from what is wanted; nothing if it does not.
func (t Test) Run(p *chains.Program) (differences []string) {
	in, err := t.input()
	if err != nil {
		return []string{err.Error()}
	}
	r := Run(p, in)
	failures := t.Want.Failures
	if failures == nil {
		failures = &[]string{}
	}
	for _, c := range []struct {
		what string
		want *[]string
		got  []string
	}{
		{"path", t.Want.Path, r.Path},
		{"asks", t.Want.Asks, r.Asks},
		{"writes", t.Want.Writes, r.Writes},
		{"logs", t.Want.Logs, r.Logs},
		{"failures", failures, r.Failures},
		{"waiting", t.Want.Waiting, r.Waiting},
	} {
		if c.want != nil && !slices.Equal(*c.want, c.got) {
			differences = append(differences, fmt.Sprintf("%s: got [%s], want [%s]", c.what, strings.Join(c.got, "; "), strings.Join(*c.want, "; ")))
		}
	}
	return differences
}

func (t Test) input() (Input, error) {
	in := Input{
		Msg: nodes.Msg{
			TS: t.TS, Now: t.TS * 1000, Type: t.Type, Originator: device, Metadata: t.Metadata, Data: nodes.Parsed(t.Data),
		},
		Values: nodes.Values{}, Answers: map[string]nodes.CallEnded{},
	}
	for _, v := range t.Values {
		text, err := nodes.AppendJSON(nil, v.Value)
		if err != nil {
			return in, fmt.Errorf("values: %s: %w", v.Name, err)
		}
		in.Values[nodes.Key{Entity: device, Scope: v.Scope, Name: v.Name}] = nodes.Value{JSON: text, TS: t.TS}
	}
	for node, a := range t.Answers {
		ended := nodes.CallEnded{Error: a.Error}
		if a.Error == "" {
			text, err := nodes.AppendJSON(nil, a.Body)
			if err != nil {
				return in, fmt.Errorf("answers: %s: %w", node, err)
			}
			ended.Body = text
		}
		in.Answers[node] = ended
	}
	return in, nil
}
