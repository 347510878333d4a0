package api

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"callchain/api/jackson"
	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// callBody is the body of POST …/rpc/oneway and …/rpc/twoway after ThingsBoard's coercions (AbstractRpcController:
// asText, asLong, asBoolean, asInt). Fields that were not given are zero, with has… or nil telling so.
type callBody struct {
	method      string
	params      []byte // as Jackson writes them; nil: not given
	info        []byte // additionalInfo; nil: not given or null
	retries     *int
	timeout     int64 // ms
	expires     int64 // ms since 1970
	id          uuid.UUID
	order       rpc.Order
	persistent  bool
	failOffline bool
	hasMethod   bool
	hasTimeout  bool
	hasExpires  bool
}

// decodeCall reads the body of a call in one pass. Unknown fields are ignored, as in ThingsBoard. onOffline and submitOrder are
// Callchain's own: there a wrong value is refused, since silence would send the command in another way than was asked for.
func decodeCall(body []byte) (callBody, error) {
	var b callBody
	if err := jackson.Members(body, b.take); err != nil {
		return b, badBody(err)
	}
	if !b.hasMethod {
		return b, badBody(fmt.Errorf(`"method" is missing`))
	}
	if strings.ContainsRune(b.method, 0) {
		return b, badBody(fmt.Errorf(`"method" has a NUL character, which the database cannot keep`))
	}
	return b, nil
}

func (b *callBody) take(name string, v jackson.Value) error {
	switch name {
	case "method":
		b.method, b.hasMethod = v.Text(), true
	case "params":
		b.params = v
	case "timeout":
		b.timeout, b.hasTimeout = v.Long(), true
	case "expirationTime":
		b.expires, b.hasExpires = v.Long(), true
	case "persistent":
		b.persistent = v.Bool()
	case "retries":
		n := v.Int()
		b.retries = &n
	case "requestUUID":
		return b.takeID(v.Text())
	case "additionalInfo":
		b.info = nil
		if !v.Null() {
			b.info = v
		}
	case "onOffline":
		return b.takeOffline(v.Text())
	case "submitOrder":
		return b.takeOrder(v.Text())
	}
	return nil
}

func (b *callBody) takeID(text string) error {
	id, err := parseUUID(text)
	if err != nil {
		return fmt.Errorf("requestUUID: %w", err)
	}
	if id == uuid.Nil {
		return fmt.Errorf("requestUUID: the nil UUID is no id")
	}
	b.id = id
	return nil
}

func (b *callBody) takeOffline(text string) error {
	switch text {
	case "fail":
		b.failOffline = true
	case "wait", "null":
		b.failOffline = false
	default:
		return fmt.Errorf(`onOffline: must be "wait" or "fail", is %q`, text)
	}
	return nil
}

func (b *callBody) takeOrder(text string) error {
	switch text {
	case "burst":
		b.order = rpc.OrderBurst
	case "on_ack":
		b.order = rpc.OrderOnAck
	case "on_response":
		b.order = rpc.OrderOnResponse
	case "null":
		b.order = rpc.OrderDefault
	default:
		return fmt.Errorf(`submitOrder: must be "burst", "on_ack" or "on_response", is %q`, text)
	}
	return nil
}

// lastMillis is the end of the year 9999: later deadlines mean never and are cut to it, so that no sum overflows.
const lastMillis = 253402300799999

// deadline is expirationTime if given, which neither the minimum nor timeout moves, else now plus the larger of the minimum and timeout.
func (b *callBody) deadline(now time.Time, t Timeouts) time.Time {
	if b.hasExpires {
		return time.UnixMilli(min(max(b.expires, 0), lastMillis))
	}
	wait := t.Default.Milliseconds()
	if b.hasTimeout {
		wait = b.timeout
	}
	wait = max(wait, t.Minimum.Milliseconds())
	if at := now.UnixMilli(); wait > lastMillis-at {
		return time.UnixMilli(lastMillis)
	}
	return now.Add(time.Duration(min(wait, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond)
}

// parseUUID takes the form with four hyphens only; its error is the text of Java's UUID.fromString, which ThingsBoard shows.
func parseUUID(text string) (uuid.UUID, error) {
	if len(text) == 36 {
		if id, err := uuid.Parse(text); err == nil {
			return id, nil
		}
	}
	return uuid.Nil, &apiError{
		status: http.StatusBadRequest, errorCode: codeBadRequest, message: "Invalid UUID string: " + clip(text, 100), code: "invalid_uuid",
		detail: "an id is written as 8-4-4-4-12 hexadecimal digits",
	}
}

// clip keeps what a caller sent from filling an answer.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
