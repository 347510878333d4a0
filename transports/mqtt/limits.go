package mqtt

import "encoding/json"

// sessionLimits is the answer to getSessionLimits.
func sessionLimits(c Config, gateway bool) []byte {
	answer := struct {
		MaxPayloadSize      int    `json:"maxPayloadSize"`
		MaxInflightMessages int    `json:"maxInflightMessages"`
		RateLimits          Rates  `json:"rateLimits"`
		GatewayRateLimits   *Rates `json:"gatewayRateLimits,omitempty"`
	}{MaxPayloadSize: c.MaxPacket, MaxInflightMessages: c.Limits.MaxInflight, RateLimits: c.Limits.Device}
	if gateway {
		answer.GatewayRateLimits = &c.Limits.Gateway
	}
	text, err := json.Marshal(answer)
	if err != nil {
		panic("mqtt: encoding session limits failed: " + err.Error()) // cannot happen: numbers and strings
	}
	return text
}
