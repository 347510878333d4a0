package flow

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"callchain/nodes"
	"callchain/nodes/internal/template"
)

// Delay is ThingsBoard's "delay", but what waits survives a restart.
var Delay = nodes.Define(nodes.Spec{
	Type: "delay", Class: "org.thingsboard.rule.engine.delay.TbMsgDelayNode", Category: nodes.Flow,
	Summary:   "Lets a message go on after a time.",
	Doc:       "The wait is stored: it goes on after a restart. `maxPendingMsgs` is accepted for ThingsBoard's sake and bounds nothing.",
	Relations: []string{nodes.Success, nodes.Failure},
	Example:   `{"periodInSeconds": 10}`,
}, newDelay)

type delayConfig struct {
	Seconds    int64  `json:"periodInSeconds" default:"60" min:"0" max:"31536000" doc:"Seconds to wait."`
	Pending    int64  `json:"maxPendingMsgs" default:"1000" min:"1" max:"100000" doc:"Accepted for ThingsBoard's sake."`
	Pattern    string `json:"periodInSecondsPattern" max:"200" doc:"Seconds to wait, with placeholders: ${key}, $[key]."`
	UsePattern bool   `json:"useMetadataPeriodInSecondsPatterns" default:"false" doc:"Take the pattern instead of the number."`
}

// secondsMax is a year.
const secondsMax = 31536000

type delay struct{ delayConfig }

func newDelay(c delayConfig) (nodes.Node, error) {
	if c.UsePattern && strings.TrimSpace(c.Pattern) == "" {
		return nil, nodes.Wrong("periodInSecondsPattern", "is empty, but useMetadataPeriodInSecondsPatterns asks for it")
	}
	return delay{c}, nil
}

func (n delay) Process(m nodes.Msg) nodes.Out {
	seconds := n.Seconds
	if n.UsePattern {
		text := strings.TrimSpace(template.Fill(n.Pattern, m))
		given, err := strconv.ParseInt(text, 10, 64)
		if err != nil || given < 0 || given > secondsMax {
			return nodes.Fail(m, fmt.Sprintf("the period is %q, but must be seconds from 0 to %d", text, secondsMax))
		}
		seconds = given
	}
	if seconds == 0 {
		return nodes.Emit(nodes.Success, m)
	}
	return nodes.Out{Ask: nodes.Wait{For: time.Duration(seconds) * time.Second}}
}

// Resume goes on when the time is over.
func (n delay) Resume(m nodes.Msg, _ nodes.Answer) nodes.Out { return nodes.Emit(nodes.Success, m) }
