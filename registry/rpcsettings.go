package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// callRules are RPCSettings as profileData holds them under "callchain". Durations are milliseconds, as everywhere in profileData.
type callRules struct {
	SubmitOrder    string `json:"submitOrder"`
	MaxRetries     *int   `json:"maxRetries"`
	AckTimeout     int64  `json:"ackTimeout"`
	Response       int64  `json:"responseTimeout"`
	Backoff        int64  `json:"backoff"`
	CloseOnTimeout *bool  `json:"closeSessionOnDeliveryTimeout"`
	LightFacts     bool   `json:"lightFacts"`
}

// The bounds of callRules.
const (
	retriesMax   = 100
	dayMillis    = int64(24 * time.Hour / time.Millisecond)
	callRulesKey = "profileData.callchain"
)

func rpcSettings(data json.RawMessage) (RPCSettings, error) {
	if len(data) == 0 {
		return RPCSettings{}, nil
	}
	var in struct {
		Callchain json.RawMessage `json:"callchain"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return RPCSettings{}, fmt.Errorf("%w: profileData: %w", ErrInvalid, err)
	}
	if in.Callchain == nil {
		return RPCSettings{}, nil
	}
	var c callRules
	strict := json.NewDecoder(bytes.NewReader(in.Callchain)) // it is ours alone, so a misspelt field helps nobody
	strict.DisallowUnknownFields()
	if err := strict.Decode(&c); err != nil {
		return RPCSettings{}, fmt.Errorf("%w: %s: %w", ErrInvalid, callRulesKey, err)
	}
	if err := c.check(); err != nil {
		return RPCSettings{}, err
	}
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	return RPCSettings{
		SubmitOrder: c.SubmitOrder, MaxRetries: c.MaxRetries, AckTimeout: ms(c.AckTimeout), Response: ms(c.Response),
		Backoff: ms(c.Backoff), CloseOnTimeout: c.CloseOnTimeout, LightFacts: c.LightFacts,
	}, nil
}

func (c callRules) check() error {
	switch c.SubmitOrder {
	case "", "burst", "on_ack", "on_response":
	default:
		return fmt.Errorf("%w: %s.submitOrder: use burst, on_ack or on_response, not %q", ErrInvalid, callRulesKey, c.SubmitOrder)
	}
	if c.MaxRetries != nil && (*c.MaxRetries < 0 || *c.MaxRetries > retriesMax) {
		return fmt.Errorf("%w: %s.maxRetries must be between 0 and %d, is %d", ErrInvalid, callRulesKey, retriesMax, *c.MaxRetries)
	}
	for field, ms := range map[string]int64{"ackTimeout": c.AckTimeout, "responseTimeout": c.Response, "backoff": c.Backoff} {
		if ms < 0 || ms > dayMillis {
			return fmt.Errorf("%w: %s.%s must be between 0 and %d milliseconds, is %d", ErrInvalid, callRulesKey, field, dayMillis, ms)
		}
	}
	return nil
}
