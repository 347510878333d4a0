package rpc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/uuid"
)

// AppendData appends the stored form of a fact: a JSON object. It is what encoding/json makes of it, only cheaper for the
// facts of every call.
func AppendData(dst []byte, f Fact) ([]byte, error) {
	switch f := f.(type) {
	case Requested:
		return appendRequested(dst, f), nil
	case Queued:
		return appendQueued(dst, f), nil
	case Sent:
		return appendSent(dst, f), nil
	case Delivered:
		return append(AppendString(append(dst, `{"evidence":`...), f.Evidence), '}'), nil
	case Succeeded:
		return append(f.Response.AppendJSON(append(dst, `{"response":`...)), '}'), nil
	}
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false) // a device's data is stored unchanged
	if err := enc.Encode(f); err != nil {
		return dst, fmt.Errorf("encoding %s: %w", f.Name(), err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), nil
}

func appendRequested(dst []byte, f Requested) []byte {
	dst = append(dst, '{')
	if f.Direction != ToDevice {
		dst = append(dst, `"direction":1,`...)
	}
	dst = AppendString(append(dst, `"method":`...), f.Method)
	if len(f.Params) > 0 {
		dst = appendCompact(append(dst, `,"params":`...), f.Params)
	}
	dst = appendFlag(dst, "oneway", f.Oneway)
	dst = appendFlag(dst, "persistent", f.Persistent)
	dst = appendFlag(dst, "waiting", f.Waiting)
	dst = strconv.AppendInt(append(dst, `,"expires":`...), int64(f.Expires), 10)
	if f.Retries != nil {
		dst = strconv.AppendInt(append(dst, `,"retries":`...), int64(*f.Retries), 10)
	}
	if f.Order != OrderDefault {
		dst = strconv.AppendInt(append(dst, `,"order":`...), int64(f.Order), 10)
	}
	if len(f.Info) > 0 {
		dst = appendCompact(append(dst, `,"info":`...), f.Info)
	}
	if len(f.Content) > 0 {
		dst = append(base64.StdEncoding.AppendEncode(append(dst, `,"content":"`...), f.Content), '"')
	}
	if f.Session != uuid.Nil {
		dst = appendUUID(append(dst, `,"session":`...), f.Session)
	}
	if f.Request != 0 {
		dst = strconv.AppendInt(append(dst, `,"request":`...), int64(f.Request), 10)
	}
	return append(dst, '}')
}

func appendQueued(dst []byte, f Queued) []byte {
	dst = strconv.AppendInt(append(dst, `{"wire":`...), int64(f.Wire), 10)
	if f.Method != nil {
		dst = AppendString(append(dst, `,"method":`...), *f.Method)
	}
	if len(f.Params) > 0 {
		dst = appendCompact(append(dst, `,"params":`...), f.Params)
	}
	if f.Run != uuid.Nil {
		dst = appendUUID(append(dst, `,"run":`...), f.Run)
	}
	return append(appendFlag(dst, "again", f.Again), '}')
}

func appendSent(dst []byte, f Sent) []byte {
	dst = append(dst, '{')
	if f.Session != uuid.Nil {
		dst = append(appendUUID(append(dst, `"session":`...), f.Session), ',')
	}
	dst = strconv.AppendInt(append(dst, `"attempt":`...), int64(f.Attempt), 10)
	return append(appendFlag(dst, "ack", f.Ack), '}')
}

func appendFlag(dst []byte, name string, on bool) []byte {
	if !on {
		return dst
	}
	dst = append(append(dst, `,"`...), name...)
	return append(dst, `":true`...)
}

func appendUUID(dst []byte, id uuid.UUID) []byte {
	dst = append(append(dst, '"'), id.String()...)
	return append(dst, '"')
}
