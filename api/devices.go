package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// deviceView is ThingsBoard's Device.
type deviceView struct {
	ID         entity          `json:"id"`
	Created    int64           `json:"createdTime"`
	Tenant     entity          `json:"tenantId"`
	Customer   entity          `json:"customerId"`
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Label      *string         `json:"label"`
	Profile    entity          `json:"deviceProfileId"`
	Data       json.RawMessage `json:"deviceData"`
	Firmware   *entity         `json:"firmwareId"`
	Software   *entity         `json:"softwareId"`
	External   *entity         `json:"externalId"`
	Version    int64           `json:"version"`
	Additional json.RawMessage `json:"additionalInfo"`
}

func deviceViewOf(d *registry.Device) deviceView {
	v := deviceView{
		ID: entity{"DEVICE", d.ID}, Created: d.Created.UnixMilli(), Tenant: entity{"TENANT", d.Tenant}, Customer: entity{"CUSTOMER", orNobody(d.Customer)},
		Name: d.Name, Type: d.Type, Profile: entity{"DEVICE_PROFILE", d.Profile}, Data: d.Data, Version: d.Version, Additional: orNull(d.Additional),
	}
	if d.Label != "" {
		v.Label = &d.Label
	}
	if len(v.Data) == 0 {
		v.Data = json.RawMessage(`{"configuration":{"type":"DEFAULT"},"transportConfiguration":{"type":"DEFAULT"}}`)
	}
	return v
}

// deviceInfoView is ThingsBoard's DeviceInfo.
type deviceInfoView struct {
	deviceView
	CustomerTitle  *string `json:"customerTitle"`
	CustomerPublic bool    `json:"customerIsPublic"`
	ProfileName    string  `json:"deviceProfileName"`
	Active         bool    `json:"active"`
}

// idBody is an id in a request, in ThingsBoard's form; null and an absent one are uuid.Nil.
type idBody struct {
	uuid.UUID
}

// UnmarshalJSON reads {"entityType":…,"id":"…"} or null.
func (b *idBody) UnmarshalJSON(raw []byte) error {
	var in *struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	if in == nil || in.ID == "" {
		b.UUID = uuid.Nil
		return nil
	}
	id, err := parseUUID(in.ID)
	if id == nobody {
		id = uuid.Nil
	}
	b.UUID = id
	return err
}

// deviceBody is what a request may say of a device.
type deviceBody struct {
	ID         idBody          `json:"id"`
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Label      string          `json:"label"`
	Profile    idBody          `json:"deviceProfileId"`
	Data       json.RawMessage `json:"deviceData"`
	Additional json.RawMessage `json:"additionalInfo"`
	Version    int64           `json:"version"`
}

func (b *deviceBody) device(tenant uuid.UUID) registry.Device {
	return registry.Device{
		ID: b.ID.UUID, Tenant: tenant, Name: b.Name, Type: b.Type, Label: b.Label, Profile: b.Profile.UUID, Data: given(b.Data),
		Additional: given(b.Additional), Version: b.Version,
	}
}

// given is a member that was sent and is not null.
func given(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

// saveDevice serves POST /api/device?accessToken=&nameConflictPolicy= (DeviceController.saveDevice).
func saveDevice(s *server, c *gin.Context, who *auth.Principal) error {
	var in deviceBody
	if err := s.readJSON(c, s.config.Body, &in); err != nil {
		return err
	}
	d, credentials := in.device(who.Tenant), registry.Credentials{}
	if token := c.Query("accessToken"); token != "" {
		credentials = registry.Credentials{Kind: registry.AccessToken, ID: token}
	}
	return s.storeDevice(c, who, d, credentials)
}

// deviceWithCredentialsBody is ThingsBoard's SaveDeviceWithCredentialsRequest.
type deviceWithCredentialsBody struct {
	Device      *deviceBody      `json:"device"`
	Credentials *credentialsBody `json:"credentials"`
}

// saveDeviceWithCredentials serves POST /api/device-with-credentials.
func saveDeviceWithCredentials(s *server, c *gin.Context, who *auth.Principal) error {
	var in deviceWithCredentialsBody
	if err := s.readJSON(c, s.config.Body, &in); err != nil {
		return err
	}
	if in.Device == nil || in.Credentials == nil {
		return badBody(errors.New(`"device" and "credentials" are both needed`))
	}
	return s.storeDevice(c, who, in.Device.device(who.Tenant), in.Credentials.credentials())
}

// storeDevice creates a device, or changes the one with the id given.
func (s *server) storeDevice(c *gin.Context, who *auth.Principal, d registry.Device, credentials registry.Credentials) error {
	ctx := c.Request.Context()
	if d.ID != uuid.Nil {
		return s.changeDevice(c, who, d, credentials)
	}
	name, err := s.freeName(c, who.Tenant, d.Name)
	if err != nil {
		return err
	}
	d.Name = name
	made, _, err := s.dir.CreateDevice(ctx, d, credentials)
	if err != nil {
		return err
	}
	return writeValue(c, deviceViewOf(&made))
}

func (s *server) changeDevice(c *gin.Context, who *auth.Principal, d registry.Device, credentials registry.Credentials) error {
	ctx := c.Request.Context()
	old, err := s.deviceFound(ctx, who, d.ID)
	if err != nil {
		return err
	}
	d.Customer = old.Device.Customer // assigned on a path of its own
	saved, err := s.dir.SaveDevice(ctx, d)
	if err != nil {
		return err
	}
	if credentials.Kind != "" {
		credentials.Device = d.ID
		if _, err := s.dir.SaveCredentials(ctx, who.Tenant, credentials); err != nil {
			return err
		}
	}
	return writeValue(c, deviceViewOf(&saved))
}

// namesTried bounds the search for a free name.
const namesTried = 100

// freeName follows nameConflictPolicy: FAIL leaves the name, UNIQUIFY adds uniquifySeparator and random letters, or a number with
// uniquifyStrategy INCREMENTAL, until it is free.
func (s *server) freeName(c *gin.Context, tenant uuid.UUID, name string) (string, error) {
	switch policy := c.Query("nameConflictPolicy"); policy {
	case "", "FAIL":
		return name, nil
	case "UNIQUIFY":
	default:
		return "", badQuery("nameConflictPolicy", "must be FAIL or UNIQUIFY, is '%s'", clip(policy, 40))
	}
	separator := c.DefaultQuery("uniquifySeparator", "_")
	candidate := name
	for n := 1; n <= namesTried; n++ {
		_, err := s.dir.DeviceByName(c.Request.Context(), tenant, candidate)
		if errors.Is(err, registry.ErrNotFound) {
			return candidate, nil
		}
		if err != nil {
			return "", err
		}
		suffix := rand.Text()[:8]
		if c.Query("uniquifyStrategy") == "INCREMENTAL" {
			suffix = strconv.Itoa(n)
		}
		candidate = name + separator + suffix
	}
	return name, nil // taken: creating it says so
}

// deviceFound is a device that the caller may use, on the paths where ThingsBoard names the id that it did not find.
func (s *server) deviceFound(ctx context.Context, who *auth.Principal, id uuid.UUID) (*registry.Facts, error) {
	f, err := s.deviceOf(ctx, who, id)
	if errors.Is(err, errNoDevice) {
		return nil, notFound("Device", id)
	}
	return f, err
}

// getDevice serves GET /api/device/{deviceId}.
func getDevice(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "deviceId")
	if err != nil {
		return err
	}
	f, err := s.deviceFound(c.Request.Context(), who, id)
	if err != nil {
		return err
	}
	return writeValue(c, deviceViewOf(&f.Device))
}

// getDeviceInfo serves GET /api/device/info/{deviceId}.
func getDeviceInfo(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "deviceId")
	if err != nil {
		return err
	}
	f, err := s.deviceFound(c.Request.Context(), who, id)
	if err != nil {
		return err
	}
	info, err := s.deviceInfo(c.Request.Context(), &f.Device)
	if err != nil {
		return err
	}
	return writeValue(c, info)
}

// deleteDevice serves DELETE /api/device/{deviceId}; the device's calls and events stay.
func deleteDevice(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "deviceId")
	if err != nil {
		return err
	}
	err = s.dir.DeleteDevice(c.Request.Context(), who.Tenant, id)
	if errors.Is(err, registry.ErrNotFound) {
		return notFound("Device", id)
	}
	if err != nil {
		return err
	}
	writeEmpty(c, http.StatusOK)
	return nil
}

// listDevices serves GET /api/tenant/devices, one by ?deviceName= or a page of them.
func listDevices(s *server, c *gin.Context, who *auth.Principal) error {
	if c.Query("deviceName") != "" {
		return deviceByName(s, c, who)
	}
	p, err := askedPage(c)
	if err != nil {
		return err
	}
	p.Size = min(p.Size, listMax)
	list, total, err := s.dir.Devices(c.Request.Context(), who.Tenant, registry.DeviceFilter{Type: c.Query("type")}, p)
	if err != nil {
		return err
	}
	return writePage(c, p, total, list, func(d *registry.Device) any { return deviceViewOf(d) })
}

// listMax is the largest page of the registry's lists; larger ones are answered with pages of this size.
const listMax = 1000

// deviceByName serves GET /api/tenant/device?deviceName=.
func deviceByName(s *server, c *gin.Context, who *auth.Principal) error {
	name := c.Query("deviceName")
	if strings.TrimSpace(name) == "" {
		return badQuery("deviceName", "it is missing")
	}
	d, err := s.dir.DeviceByName(c.Request.Context(), who.Tenant, name)
	if err != nil {
		return err
	}
	return writeValue(c, deviceViewOf(&d))
}
