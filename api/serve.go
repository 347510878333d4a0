package api

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	"callchain/engine"
	"callchain/engine/rpc"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// handler serves one request of a known caller. What it returns is rendered by answer; it has written nothing then.
type handler func(s *server, c *gin.Context, who *auth.Principal) error

// serve wraps a route: bounds first, then who it is, then whether it may, then the work.
func (s *server) serve(r route) gin.HandlerFunc {
	seen := s.metrics.forRoute(r.method, r.path)
	gate := s.limits.gates[r.lane]
	return func(c *gin.Context) {
		begun := s.now()
		defer func() { seen(c.Writer.Status(), s.now().Sub(begun)) }()
		if !gate.enter() {
			s.answer(c, errTooManyIn)
			return
		}
		defer gate.leave()
		var who auth.Principal
		if r.roles&anybody == 0 {
			var err error
			if who, err = s.authenticate(c.Request.Header); err != nil {
				s.answer(c, err)
				return
			}
			if !r.roles.admits(who.Authority) {
				s.answer(c, errPermission)
				return
			}
		}
		var err error
		if r.lane != probing {
			err = checkQuery(c)
		}
		if err == nil {
			err = r.handle(s, c, &who)
		}
		if err != nil {
			s.answer(c, err)
		}
	}
}

// authenticate looks at X-Authorization first, then at Authorization, as ThingsBoard's JwtHeaderTokenExtractor. A header without the
// scheme Bearer is no token; ThingsBoard would send the caller to its web login (302), which no program wants.
func (s *server) authenticate(h http.Header) (auth.Principal, error) {
	value := first(h["X-Authorization"])
	if value == "" {
		value = first(h["Authorization"])
	}
	token, ok := strings.CutPrefix(value, "Bearer ")
	if !ok || token == "" {
		return auth.Principal{}, errNoToken
	}
	return s.access.Verify(token)
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// recovered turns a panic into a 500 and a line in the log.
func (s *server) recovered(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p)
		}
		s.log.Error("a request panicked", "method", c.Request.Method, "route", c.FullPath(), "panic", p, "stack", string(debug.Stack()))
		if !c.Writer.Written() {
			s.answer(c, errInternal)
		}
	}()
	c.Next()
}

// statusGone is what the metrics show of a caller that went away before the answer (nginx's 499).
const statusGone = 499

// answer renders an error. Nobody reads the answer to a caller that is gone.
func (s *server) answer(c *gin.Context, err error) {
	e := answerTo(err)
	if reasons := s.engine.Ready(); e.code == notReady && len(reasons) > 0 {
		e = e.because("nothing happened, try again: " + strings.Join(reasons, "; "))
	}
	if ctx := c.Request.Context(); ctx.Err() != nil {
		if !errors.Is(context.Cause(ctx), engine.ErrStopping) {
			c.Writer.WriteHeader(statusGone)
			return
		}
		e = answerTo(engine.ErrStopping).with(e.call)
	}
	if e.status == http.StatusInternalServerError {
		s.log.Error("a request failed", "method", c.Request.Method, "route", c.FullPath(), "error", e.cause)
	}
	h := c.Writer.Header()
	if e.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int(e.retry.Seconds()))))
	}
	if e.call != uuid.Nil {
		h.Set(headerCall, e.call.String())
	}
	if e.status == http.StatusRequestEntityTooLarge {
		h.Set("Connection", "close")
	}
	writeJSON(c, e.status, appendError(make([]byte, 0, 256), e, s.now().UnixMilli()))
}

// appendError writes ThingsBoard's four fields (ThingsboardErrorResponse), then ours.
func appendError(dst []byte, e *apiError, now int64) []byte {
	dst = strconv.AppendInt(append(dst, `{"status":`...), int64(e.status), 10)
	dst = rpc.AppendString(append(dst, `,"message":`...), e.message)
	dst = strconv.AppendInt(append(dst, `,"errorCode":`...), int64(e.errorCode), 10)
	dst = strconv.AppendInt(append(dst, `,"timestamp":`...), now, 10)
	dst = rpc.AppendString(append(dst, `,"code":`...), e.code)
	dst = rpc.AppendString(append(dst, `,"detail":`...), e.detail)
	if e.call != uuid.Nil {
		dst = append(append(append(dst, `,"rpcId":"`...), e.call.String()...), '"')
	}
	return append(append(dst, e.more...), '}')
}

// The values of Content-Type, shared by all answers.
var (
	jsonType   = []string{"application/json"}
	streamType = []string{"text/event-stream"}
)

const (
	headerCall        = "Callchain-Rpc-Id"
	headerIdempotency = "Idempotency-Key"
	headerTrace       = "Traceparent"
	headerLastEvent   = "Last-Event-Id"
)

// writeJSON sends a whole answer. An error of the connection ends with the connection.
func writeJSON(c *gin.Context, status int, body []byte) {
	c.Writer.Header()["Content-Type"] = jsonType
	c.Writer.WriteHeader(status)
	_, _ = c.Writer.Write(body) // the caller is gone; there is nobody to tell
}

// writeEmpty sends a status without a body.
func writeEmpty(c *gin.Context, status int) {
	c.Writer.WriteHeader(status)
	c.Writer.WriteHeaderNow()
}

// noRoute is ThingsBoard's (Spring's) answer to an unknown path. Telemetry of other entities than devices is one.
func noRoute(_ *server, c *gin.Context, _ *auth.Principal) error {
	e := &apiError{
		status: 404, errorCode: codeNotFound, code: "no_such_path",
		message: "No static resource " + clip(strings.TrimPrefix(c.Request.URL.Path, "/"), 200) + ".",
	}
	rest, telemetry := strings.CutPrefix(c.Request.URL.Path, telemetryPath)
	if kind, _, more := strings.Cut(rest, "/"); telemetry && more && kind != "DEVICE" {
		e.code, e.detail = "unsupported_entity_type", "only DEVICE has telemetry and attributes here, not '"+clip(kind, 40)+"'"
	}
	return e
}

// telemetryPath begins the paths of telemetry and attributes; the type of the entity follows.
const telemetryPath = "/api/plugins/telemetry/"

func noMethod(_ *server, c *gin.Context, _ *auth.Principal) error {
	return &apiError{
		status: 405, errorCode: codeBadRequest, code: "method_not_allowed",
		message: "Request method '" + clip(c.Request.Method, 20) + "' is not supported",
	}
}
