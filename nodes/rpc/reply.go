package rpc

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"callchain/nodes"

	"github.com/google/uuid"
)

// Reply is ThingsBoard's "rpc call reply" (TbSendRPCReplyNode).
var Reply = nodes.Define(nodes.Spec{
	Type: "rpc call reply", Class: "org.thingsboard.rule.engine.rpc.TbSendRPCReplyNode", Category: nodes.Action,
	Summary: "Answers the call that a device made with the data of the message.",
	Doc: "Session and request are taken from the metadata that came with the call. Success passes the message on; as in ThingsBoard it does " +
		"not prove that the device got the answer. If nobody waits for the answer any more, metadata `replyError` tells why.",
	Relations: []string{nodes.Success, nodes.Failure}, Terminal: true, Example: `{}`,
}, newReply)

type replyConfig struct {
	Service string `json:"serviceIdMetaDataAttribute" default:"serviceId" doc:"Metadata key of the service that holds the session."`
	Session string `json:"sessionIdMetaDataAttribute" default:"sessionId" doc:"Metadata key of the session."`
	Request string `json:"requestIdMetaDataAttribute" default:"requestId" doc:"Metadata key of the request's number."`
}

type reply struct{ replyConfig }

func newReply(c replyConfig) (nodes.Node, error) {
	return reply{replyConfig{
		Service: orDefault(c.Service, "serviceId"), Session: orDefault(c.Session, "sessionId"), Request: orDefault(c.Request, "requestId"),
	}}, nil
}

func orDefault(s, otherwise string) string {
	if strings.TrimSpace(s) == "" {
		return otherwise
	}
	return s
}

func (n reply) Process(m nodes.Msg) nodes.Out {
	if m.Originator.Type != nodes.Device {
		return nodes.Fail(m, errNoDevice)
	}
	request, service, session := text(m, n.Request), text(m, n.Service), text(m, n.Session)
	body, err := m.Data.Bytes()
	switch {
	case request == "":
		return nodes.Fail(m, "Request id is not present in the metadata!")
	case service == "":
		return nodes.Fail(m, "Service id is not present in the metadata!")
	case session == "":
		return nodes.Fail(m, "Session id is not present in the metadata!")
	case err != nil:
		return nodes.Fail(m, err.Error())
	case len(bytes.TrimSpace(body)) == 0:
		return nodes.Fail(m, "Request body is empty!")
	case text(m, "edgeId") != "":
		return nodes.Fail(m, "metadata edgeId is set, but there are no edges here")
	}
	ask := nodes.ReplyCall{Service: service, Body: body}
	number, err := strconv.ParseInt(request, 10, 32)
	if err != nil {
		return nodes.Fail(m, fmt.Sprintf("Request id is no number: %q", request))
	}
	ask.Request = int32(number)
	if ask.Session, err = uuid.Parse(session); err != nil {
		return nodes.Fail(m, fmt.Sprintf("Session id is no UUID: %q", session))
	}
	return nodes.Out{Ask: ask}
}

// Resume passes the message on.
func (n reply) Resume(m nodes.Msg, a nodes.Answer) nodes.Out {
	if r, ok := a.(nodes.Replied); ok && r.Error != "" {
		m = m.WithMetadata("replyError", r.Error)
	}
	return nodes.Emit(nodes.Success, m)
}
