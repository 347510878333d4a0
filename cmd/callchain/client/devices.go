package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
)

// Ref is how ThingsBoard writes an id.
type Ref struct {
	EntityType string `json:"entityType"`
	ID         string `json:"id"`
}

// Device is ThingsBoard's Device, as far as the commands use it.
type Device struct {
	ID         *Ref            `json:"id,omitempty"`
	Name       string          `json:"name"`
	Type       string          `json:"type,omitempty"`
	Label      string          `json:"label,omitempty"`
	Profile    *Ref            `json:"deviceProfileId,omitempty"`
	Created    int64           `json:"createdTime,omitempty"` // milliseconds since 1970
	Additional json.RawMessage `json:"additionalInfo,omitempty"`
}

// CreateDevice makes a device; an empty token lets the server choose one, which Token tells.
func (c *Client) CreateDevice(ctx context.Context, d Device, token string) (Device, error) {
	path := "/api/device"
	if token != "" {
		path += "?accessToken=" + url.QueryEscape(token)
	}
	var out Device
	err := c.Do(ctx, http.MethodPost, path, d, &out)
	return out, err
}

// DeviceToken reads a device's access token; empty if it proves itself otherwise.
func (c *Client) DeviceToken(ctx context.Context, id string) (string, error) {
	var out struct {
		Kind string `json:"credentialsType"`
		ID   string `json:"credentialsId"`
	}
	err := c.Do(ctx, http.MethodGet, "/api/device/"+url.PathEscape(id)+"/credentials", nil, &out)
	if out.Kind != "ACCESS_TOKEN" {
		out.ID = ""
	}
	return out.ID, err
}

// DeleteDevice removes a device; its calls and events stay.
func (c *Client) DeleteDevice(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/api/device/"+url.PathEscape(id), nil, nil)
}

// DeviceByName finds a device by its whole name.
func (c *Client) DeviceByName(ctx context.Context, name string) (Device, error) {
	var out Device
	err := c.Do(ctx, http.MethodGet, "/api/tenant/devices?deviceName="+url.QueryEscape(name), nil, &out)
	return out, err
}

// DevicePage is a part of the list of devices.
type DevicePage struct {
	Data    []Device `json:"data"`
	Total   int      `json:"totalElements"`
	HasNext bool     `json:"hasNext"`
}

// Devices lists devices by name; search is a part of the name.
func (c *Client) Devices(ctx context.Context, size, page int, search string) (DevicePage, error) {
	q := url.Values{
		"pageSize": {strconv.Itoa(size)}, "page": {strconv.Itoa(page)},
		"sortProperty": {"name"}, "sortOrder": {"ASC"}, "textSearch": {search},
	}
	var out DevicePage
	err := c.Do(ctx, http.MethodGet, "/api/tenant/devices?"+q.Encode(), nil, &out)
	return out, err
}

// Profile is ThingsBoard's DeviceProfile, as far as the commands use it.
type Profile struct {
	ID        *Ref           `json:"id,omitempty"`
	Name      string         `json:"name"`
	Type      string         `json:"type"`
	Transport string         `json:"transportType"`
	Provision string         `json:"provisionType"`
	Chain     *Ref           `json:"defaultRuleChainId,omitempty"`
	Data      map[string]any `json:"profileData"`
}

// CreateProfile makes a device profile whose messages enter a chain; an empty chain means the root chain. rules are its settings
// for calls (profileData.callchain), nil for the server's.
func (c *Client) CreateProfile(ctx context.Context, name, chain string, rules map[string]any) (Profile, error) {
	p := Profile{Name: name, Type: "DEFAULT", Transport: "DEFAULT", Provision: "DISABLED", Data: map[string]any{
		"configuration": map[string]any{"type": "DEFAULT"}, "transportConfiguration": map[string]any{"type": "DEFAULT"},
	}}
	if chain != "" {
		p.Chain = &Ref{"RULE_CHAIN", chain}
	}
	if rules != nil {
		p.Data["callchain"] = rules
	}
	var out Profile
	err := c.Do(ctx, http.MethodPost, "/api/deviceProfile", p, &out)
	return out, err
}

// DeleteProfile removes a device profile that no device has.
func (c *Client) DeleteProfile(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/api/deviceProfile/"+url.PathEscape(id), nil, nil)
}
