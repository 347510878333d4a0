package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"callchain/api/jackson"
	"callchain/engine"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
)

// saveSeries serves POST …/timeseries/{scope}[/{ttl}]: latest values of a device, written by somebody else (TelemetryController.
// saveEntityTelemetry). The scope means nothing, as in ThingsBoard; a time to live has nothing to act on, since no history is kept.
func saveSeries(s *server, c *gin.Context, who *auth.Principal) error {
	device, err := s.pathDevice(c, who)
	if err != nil {
		return err
	}
	if ttl := c.Param("ttl"); ttl != "" {
		if n, err := strconv.ParseInt(ttl, 10, 64); err != nil || n < 0 {
			return badQuery("ttl", "must be a number of seconds, is '%s'", clip(ttl, 40))
		}
	}
	b, err := s.readBody(c, s.config.Body)
	if err != nil {
		return err
	}
	defer b.release()
	points, err := readPoints(b.bytes, s.now().UnixMilli())
	if err != nil {
		return badBody(err)
	}
	return s.changeSeries(c, engine.SeriesChange{Tenant: who.Tenant, Device: device, Points: points, Actor: who.Actor})
}

func (s *server) changeSeries(c *gin.Context, change engine.SeriesChange) error {
	if err := s.engine.ChangeSeries(c.Request.Context(), change); err != nil {
		return err
	}
	writeEmpty(c, http.StatusOK)
	return nil
}

// readPoints takes {"key":value,…}, {"ts":ms,"values":{…}}, and lists of both. Values without a time have now.
func readPoints(body []byte, now int64) ([]engine.Point, error) {
	var out []engine.Point
	items := []json.RawMessage{body}
	if begin := bytes.TrimLeft(body, " \t\r\n"); len(begin) > 0 && begin[0] == '[' {
		if err := json.Unmarshal(body, &items); err != nil {
			return nil, err
		}
	}
	for _, item := range items {
		points, err := pointsOf(item, now)
		if err != nil {
			return nil, err
		}
		if out = append(out, points...); len(out) > valuesMax {
			return nil, fmt.Errorf("more than %d values", valuesMax)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no timeseries data found in request body")
	}
	return out, nil
}

// pointsOf are the values of one object.
func pointsOf(item []byte, now int64) ([]engine.Point, error) {
	ts, values := now, item
	var own, held jackson.Value
	err := jackson.Members(item, func(name string, v jackson.Value) error {
		switch name {
		case "ts":
			own = v
		case "values":
			held = v
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if own != nil && held != nil {
		if ts, err = strconv.ParseInt(string(own), 10, 64); err != nil {
			return nil, fmt.Errorf("ts: must be milliseconds since 1970, is %s", clip(string(own), 40))
		}
		values = held
	}
	var out []engine.Point
	err = jackson.Members(values, func(key string, v jackson.Value) error {
		if v.Null() {
			return nil
		}
		out = append(out, engine.Point{TS: ts, Key: key, Value: json.RawMessage(v)})
		return checkKey(key)
	})
	return out, err
}

// deleteSeries serves DELETE …/timeseries/delete?keys=a,b: the latest values of the keys are gone. That is all there is to delete; what asks to keep
// them is refused.
func deleteSeries(s *server, c *gin.Context, who *auth.Principal) error {
	device, err := s.pathDevice(c, who)
	if err != nil {
		return err
	}
	latest, err := optionalBool(c, "deleteLatest")
	if err != nil {
		return err
	}
	for _, idle := range []string{"deleteAllDataForKeys", "rewriteLatestIfDeleted"} {
		if _, err := optionalBool(c, idle); err != nil {
			return err
		}
	}
	if latest != nil && !*latest {
		return badQuery("deleteLatest", "only the latest values are kept, so there is nothing else to delete")
	}
	if c.Query("startTs") != "" || c.Query("endTs") != "" {
		return badQuery("startTs", "only the latest values are kept; leave startTs and endTs out")
	}
	keys, err := keysToDelete(c)
	if err != nil {
		return err
	}
	return s.changeSeries(c, engine.SeriesChange{Tenant: who.Tenant, Device: device, Delete: keys, Actor: who.Actor})
}

// noHistory serves GET …/values/timeseries/history, for which nothing is kept.
func noHistory(s *server, c *gin.Context, who *auth.Principal) error {
	if _, err := s.pathDevice(c, who); err != nil {
		return err
	}
	return badQuery("startTs", "only the latest values are kept; ask for …/values/timeseries without startTs and endTs")
}
