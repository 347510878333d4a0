package api

import (
	"context"
	"errors"
	"strings"

	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// askedIDs reads a list of ids with commas between them.
func askedIDs(c *gin.Context, name string) ([]uuid.UUID, error) {
	text := c.Query(name)
	if text == "" {
		return nil, badQuery(name, "it is missing")
	}
	parts := strings.Split(text, ",")
	if len(parts) > listMax {
		return nil, badQuery(name, "there are %d, more than %d", len(parts), listMax)
	}
	ids := make([]uuid.UUID, len(parts))
	for i, part := range parts {
		id, err := parseUUID(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		ids[i] = id
	}
	return ids, nil
}

// devicesByIDs serves GET /api/devices?deviceIds=a,b. Ids that name nothing, and devices that the caller may not use, are left out.
func devicesByIDs(s *server, c *gin.Context, who *auth.Principal) error {
	ids, err := askedIDs(c, "deviceIds")
	if err != nil {
		return err
	}
	views := []deviceView{}
	for _, id := range ids {
		f, err := s.dir.FactsOf(c.Request.Context(), who.Tenant, id)
		switch {
		case errors.Is(err, registry.ErrNotFound):
		case err != nil:
			return err
		case owns(who, f.Device.Tenant, f.Device.Customer):
			views = append(views, deviceViewOf(&f.Device))
		}
	}
	return writeValue(c, views)
}

// listDeviceInfos serves GET /api/tenant/deviceInfos?type=&deviceProfileId=.
func listDeviceInfos(s *server, c *gin.Context, who *auth.Principal) error {
	p, err := askedPage(c)
	if err != nil {
		return err
	}
	p.Size = min(p.Size, listMax)
	f := registry.DeviceFilter{Type: c.Query("type")}
	if f.Profile, err = optionalUUID(c, "deviceProfileId"); err != nil {
		return err
	}
	if c.Query("active") != "" {
		return badQuery("active", "devices cannot be listed by it; leave it out and look at \"active\" of each")
	}
	ctx := c.Request.Context()
	list, total, err := s.dir.Devices(ctx, who.Tenant, f, p)
	if err != nil {
		return err
	}
	infos := make([]deviceInfoView, len(list))
	for i := range list {
		if infos[i], err = s.deviceInfo(ctx, &list[i]); err != nil {
			return err
		}
	}
	return writePage(c, p, total, infos, func(v *deviceInfoView) any { return v })
}

func (s *server) deviceInfo(ctx context.Context, d *registry.Device) (deviceInfoView, error) {
	active, err := s.deviceActive(ctx, d.ID)
	return deviceInfoView{deviceView: deviceViewOf(d), ProfileName: d.Type, Active: active}, err
}

// subtypeView is ThingsBoard's EntitySubtype: a type that devices have.
type subtypeView struct {
	Tenant     entity `json:"tenantId"`
	EntityType string `json:"entityType"`
	Type       string `json:"type"`
}

// deviceTypes serves GET /api/device/types: the names of the device profiles.
func deviceTypes(s *server, c *gin.Context, who *auth.Principal) error {
	views := []subtypeView{}
	err := s.eachProfile(c.Request.Context(), who, func(p *registry.Profile) error {
		views = append(views, subtypeView{entity{"TENANT", p.Tenant}, "DEVICE", p.Name})
		return nil
	})
	if err != nil {
		return err
	}
	return writeValue(c, views)
}

// eachProfile visits the tenant's profiles by name, listMax of them at most.
func (s *server) eachProfile(ctx context.Context, who *auth.Principal, visit func(*registry.Profile) error) error {
	list, _, err := s.dir.Profiles(ctx, who.Tenant, registry.Page{Size: listMax, Sort: "name"})
	if err != nil {
		return err
	}
	for i := range list {
		if err := visit(&list[i]); err != nil {
			return err
		}
	}
	return nil
}
