package httpdevice

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"callchain/transports"
)

// empty sends a status without a body, as ThingsBoard's device API answers nearly everything.
func empty(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}

// begin writes the head of an answer with a body.
func begin(w http.ResponseWriter, status int, contentType string, size int) {
	h := w.Header()
	h["Content-Type"] = nil // none, rather than a guess
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	h.Set("Content-Length", strconv.Itoa(size))
	w.WriteHeader(status)
}

const (
	jsonType = "application/json"
	textType = "text/plain;charset=UTF-8"
)

// text sends a body that nobody waits for a proof of.
func text(w http.ResponseWriter, status int, contentType, body string) {
	begin(w, status, contentType, len(body))
	_, _ = io.WriteString(w, body) // an error says that the device has hung up: there is nobody to tell
}

// negotiated is the type of an answer that a chain made: ThingsBoard sends text unless the device asks for JSON.
func negotiated(r *http.Request) string {
	for _, accepted := range r.Header.Values("Accept") {
		if strings.Contains(accepted, jsonType) {
			return jsonType
		}
	}
	return textType
}

// badRequest is the answer of ThingsBoard's web framework to what it cannot read, the one answer with an error in JSON.
func badRequest(w http.ResponseWriter, format string, args ...any) {
	body, err := json.Marshal(struct {
		Message   string `json:"message"`
		ErrorCode int    `json:"errorCode"`
		Status    int    `json:"status"`
		Timestamp int64  `json:"timestamp"`
	}{fmt.Sprintf(format, args...), 31, http.StatusBadRequest, time.Now().UnixMilli()})
	if err != nil {
		panic("httpdevice: encoding an error failed: " + err.Error()) // cannot happen: strings and numbers can be encoded
	}
	text(w, http.StatusBadRequest, jsonType, string(body))
}

// busy sends a device away for a moment.
func (s *Server) busy(w http.ResponseWriter) {
	s.count.refused.Add(1)
	w.Header().Set("Retry-After", "1")
	empty(w, http.StatusServiceUnavailable)
}

// settled answers a message by what became of it. What the engine refuses for good is 500 without a body, as ThingsBoard answers
// everything that it could not pass on.
func (s *Server) settled(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		empty(w, http.StatusOK)
	case errors.Is(err, transports.ErrBusy):
		s.busy(w)
	case errors.Is(err, transports.ErrUnauthorized): // since the token was checked
		s.count.unauthorized.Add(1)
		empty(w, http.StatusUnauthorized)
	default:
		s.log.Info("http device: a message was not taken", "error", err)
		empty(w, http.StatusInternalServerError)
	}
}
