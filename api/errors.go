package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"callchain/api/jackson"
	"callchain/engine"
	"callchain/engine/deadletter"
	"callchain/engine/rpc"
	"callchain/eventstore"
	"callchain/registry"
	"callchain/registry/auth"
	"callchain/registry/password"

	"github.com/google/uuid"
)

// ThingsBoard's error codes (ThingsboardErrorCode) that this API uses.
const (
	codeGeneral        = 2
	codeAuthentication = 10
	codeTokenExpired   = 11
	codePermission     = 20
	codeBadRequest     = 31
	codeNotFound       = 32
	codeTooMany        = 33
	codeConflict       = 35
)

// notReady is the code of answers that name what is missing.
const notReady = "not_ready"

// apiError is an answer that is no success: HTTP status, ThingsBoard's errorCode and message, our stable code in snake_case, and a
// detail that names the place and the mend.
type apiError struct {
	status    int
	errorCode int
	message   string
	code      string
	detail    string
	call      uuid.UUID     // of the call, uuid.Nil if none
	retry     time.Duration // Retry-After, 0 if none
	more      []byte        // further members of the JSON object, each with its comma before it
	cause     error         // of an internal error, for the log
}

func (e *apiError) Error() string {
	if e.detail == "" {
		return e.message
	}
	return e.message + ": " + e.detail
}

// with is a copy that names a call.
func (e *apiError) with(call uuid.UUID) *apiError {
	c := *e
	c.call = call
	return &c
}

// because is a copy with a detail.
func (e *apiError) because(detail string) *apiError {
	c := *e
	c.detail = detail
	return &c
}

// The answers that are always the same.
var (
	errNoToken    = &apiError{status: 401, errorCode: codeAuthentication, message: "Authentication failed", code: "unauthenticated"}
	errBadToken   = &apiError{status: 401, errorCode: codeAuthentication, message: "Invalid username or password", code: "bad_credentials"}
	errOldToken   = &apiError{status: 401, errorCode: codeTokenExpired, message: "Token has expired", code: "token_expired"}
	errDisabled   = &apiError{status: 401, errorCode: codeAuthentication, message: "User account is not active", code: "user_disabled"}
	errPermission = &apiError{
		status: 403, errorCode: codePermission, message: "You don't have permission to perform this operation!", code: "forbidden",
	}
	errSysAdmin = &apiError{
		status: 403, errorCode: codePermission, message: "System administrator is not allowed to perform this operation!", code: "forbidden",
	}
	errNoDevice  = &apiError{status: 404, errorCode: codeNotFound, message: "Device with requested id wasn't found!", code: "device_not_found"}
	errNotJSON   = &apiError{status: 406, errorCode: codeGeneral, message: "The device's answer is not JSON", code: "answer_not_json"}
	errTooManyIn = &apiError{
		status: 503, errorCode: codeGeneral, message: "The server is busy", code: "busy", retry: time.Second,
		detail: "too many requests are being served; nothing happened, try again",
	}
	errInternal = &apiError{
		status: 500, errorCode: codeGeneral, message: "Internal server error", code: "internal",
		detail: "the server's log tells more",
	}
)

// badBody is the answer to a body that cannot be read as what it should be.
func badBody(err error) *apiError {
	var own *apiError
	if errors.As(err, &own) && own.status == http.StatusRequestEntityTooLarge {
		return own
	}
	return &apiError{status: 400, errorCode: codeBadRequest, message: "Invalid request body", code: "invalid_body", detail: err.Error()}
}

// badQuery is the answer to a parameter of the address that is missing or wrong.
func badQuery(name, format string, args ...any) *apiError {
	return &apiError{
		status: 400, errorCode: codeBadRequest, message: "Invalid request parameter '" + name + "'", code: "invalid_parameter",
		detail: name + ": " + fmt.Sprintf(format, args...),
	}
}

// tooLarge is ThingsBoard's PayloadSizeFilter.
func tooLarge(limit int64) *apiError {
	return &apiError{
		status: 413, errorCode: codeGeneral, message: fmt.Sprintf("Payload size exceeds the limit of %d bytes", limit), code: "payload_too_large",
		detail: "limits.http_body sets the limit",
	}
}

func notFound(what string, id uuid.UUID) *apiError {
	return &apiError{status: 404, errorCode: codeNotFound, message: fmt.Sprintf("%s with id [%s] is not found", what, id), code: "not_found"}
}

// answerTo is the one place where an error becomes a status and a code. What it does not know is an internal error, whose text
// goes to the log and not to the caller.
func answerTo(err error) *apiError {
	var own *apiError
	var refusal *rpc.Refusal
	var tooMany *auth.TooManyError
	var rerun *deadletter.RerunError
	var outage *eventstore.OutageError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &refusal):
		return refusalAnswer(refusal)
	case errors.As(err, &rerun):
		return &apiError{
			status: 409, errorCode: codeConflict, message: "The command of the dead letter was not accepted", code: rerun.Code, detail: rerun.Detail,
		}
	case errors.As(err, &tooMany):
		return &apiError{
			status: 429, errorCode: codeTooMany, message: "Too many login attempts", code: "too_many_logins", retry: tooMany.RetryAfter, detail: err.Error(),
		}
	case errors.As(err, &outage) && !errors.Is(err, engine.ErrUncertain):
		return outageAnswer(outage)
	case errors.Is(err, jackson.ErrSyntax):
		return badBody(err)
	}
	for _, known := range sentinels {
		if errors.Is(err, known.err) {
			e := *known.answer
			if known.detail {
				e.detail = err.Error()
			}
			return &e
		}
	}
	e := *errInternal
	e.cause = err
	return &e
}

// outageAnswer names what whoever runs the server must mend; the database's own words are for the log of the engine.
func outageAnswer(o *eventstore.OutageError) *apiError {
	e := &apiError{
		status: 503, errorCode: codeGeneral, message: "The database is not available", code: "database_unavailable", retry: time.Second,
		detail: o.Reason + "; nothing happened, try again",
	}
	if o.Reason == eventstore.ReasonUncertain {
		e.code, e.detail = "outcome_unknown", o.Reason+"; look whether it was"
	}
	return e
}

// sentinels maps the errors of the contracts. detail: the error's text is for the caller.
var sentinels = []struct {
	err    error
	answer *apiError
	detail bool
}{
	{engine.ErrBusy, &apiError{
		status: 503, errorCode: codeGeneral, message: "The server is busy", code: "busy", retry: time.Second, detail: "nothing happened, try again",
	}, false},
	{engine.ErrStopping, &apiError{
		status: 503, errorCode: codeGeneral, message: "The server is shutting down", code: "shutting_down", retry: 2 * time.Second,
		detail: "a call that was accepted goes on; ask for it by its id",
	}, false},
	{engine.ErrUnready, &apiError{
		status: 503, errorCode: codeGeneral, message: "The server is not ready", code: notReady, retry: time.Second, detail: "nothing happened, try again",
	}, false},
	{engine.ErrUncertain, &apiError{
		status: 503, errorCode: codeGeneral, message: "The outcome is not known", code: "outcome_unknown", retry: time.Second,
		detail: "the database did not answer; ask for the call by its id, or repeat the request with the same Idempotency-Key",
	}, false},
	{engine.ErrTooLarge, &apiError{status: 413, errorCode: codeGeneral, message: "The call is too large", code: "payload_too_large"}, true},
	{deadletter.ErrUnknown, &apiError{status: 404, errorCode: codeNotFound, message: "Requested item wasn't found!", code: "not_found"}, true},
	{engine.ErrCursor, &apiError{status: 400, errorCode: codeBadRequest, message: "Invalid request parameter 'after'", code: "invalid_cursor"}, true},
	{registry.ErrNotFound, &apiError{status: 404, errorCode: codeNotFound, message: "Requested item wasn't found!", code: "not_found"}, true},
	{registry.ErrExists, &apiError{status: 400, errorCode: codeBadRequest, message: "Such an item already exists!", code: "already_exists"}, true},
	{registry.ErrInvalid, &apiError{status: 400, errorCode: codeBadRequest, message: "Invalid value", code: "invalid_value"}, true},
	{registry.ErrStale, &apiError{status: 409, errorCode: codeConflict, message: "The item was changed meanwhile", code: "version_conflict"}, true},
	{registry.ErrInUse, &apiError{status: 400, errorCode: codeBadRequest, message: "The item is in use", code: "in_use"}, true},
	{registry.ErrBadPassword, errBadToken, false},
	{registry.ErrDisabled, errDisabled, false},
	{auth.ErrMalformed, errBadToken, false},
	{auth.ErrNotAccess, errBadToken, false},
	{auth.ErrExpired, errOldToken, false},
	{password.ErrBusy, &apiError{
		status: 503, errorCode: codeGeneral, message: "The server is busy", code: "busy", retry: 2 * time.Second, detail: "too many passwords are being checked; try again",
	}, false},
	{context.DeadlineExceeded, &apiError{
		status: 503, errorCode: codeGeneral, message: "The request took too long", code: "deadline_exceeded", retry: time.Second,
		detail: "the database did not answer in time",
	}, false},
}

// refusalAnswer maps what the life cycle refuses.
func refusalAnswer(r *rpc.Refusal) *apiError {
	e := &apiError{status: 409, errorCode: codeConflict, message: "The call cannot be changed", code: string(r.Code), detail: r.Detail}
	switch r.Code {
	case rpc.CodeUnknown:
		e.status, e.errorCode, e.message = 404, codeNotFound, "There is no such call"
	case rpc.CodeTooManyOpen:
		e.status, e.errorCode, e.message, e.retry = 429, codeTooMany, "Too many calls of the device are open", time.Second
	case rpc.CodeKnown:
		e.message = "The id belongs to another call"
	case rpc.CodeEnded:
		e.message = "The call has ended"
	default: // the rest are conflicts with what the call has come to
	}
	return e
}

// version tells the two families of paths apart: v1 is /api/plugins/rpc, v2 is /api/rpc. They differ in the codes of failures.
type version int

const (
	v1 version = 1
	v2 version = 2
)

// outcomeMessages are the texts for people; the reason itself is the code.
var outcomeMessages = map[rpc.Code]string{
	rpc.CodeTimeout:         "The device did not answer in time",
	rpc.CodeOffline:         "The device is not connected",
	rpc.CodeNotDispatched:   "The rule chain did not send the call to the device",
	rpc.CodeChainFailed:     "A rule node failed before the call was sent",
	rpc.CodeDeliveryTimeout: "The device did not acknowledge the call",
	rpc.CodeAnswerTimeout:   "The device did not answer in time after the delivery",
	rpc.CodeTransport:       "The call could not be sent to the device",
	rpc.CodeCallerGone:      "The server was restarted before the call was sent",
	rpc.CodeCancelled:       "The call was cancelled",
}

// outcomeError is the answer for a call that did not succeed: decision 0004, ThingsBoard's LocalRequestMetaData handling in
// RpcV1Controller (408, 409 without a connection) and RpcV2Controller (504).
func outcomeError(v version, r engine.CallResult) *apiError {
	code := r.Code
	if code == "" {
		code = rpc.CodeTimeout
	}
	if code == rpc.CodeTooManyOpen || code == rpc.CodeKnown {
		return refusalAnswer(&rpc.Refusal{Code: code, Detail: r.Detail}).with(r.ID)
	}
	status := http.StatusGatewayTimeout
	if v == v1 {
		status = http.StatusRequestTimeout
		if code == rpc.CodeOffline {
			status = http.StatusConflict
		}
	}
	message, ok := outcomeMessages[code]
	if !ok {
		message = "The call did not succeed"
	}
	return &apiError{status: status, errorCode: codeGeneral, message: message, code: string(code), detail: r.Detail, call: r.ID}
}
