package api

import (
	"context"
	"errors"
	"maps"
	"slices"

	"callchain/eventstore"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// namedView is ThingsBoard's EntityInfo: an id and a name.
type namedView struct {
	ID   entity `json:"id"`
	Name string `json:"name"`
}

// profileNames serves GET /api/deviceProfile/names?activeOnly=: all profiles, or those that have devices.
func profileNames(s *server, c *gin.Context, who *auth.Principal) error {
	activeOnly, err := optionalBool(c, "activeOnly")
	if err != nil {
		return err
	}
	ctx, views := c.Request.Context(), []namedView{}
	err = s.eachProfile(ctx, who, func(p *registry.Profile) error {
		if activeOnly != nil && *activeOnly {
			if _, devices, err := s.dir.Devices(ctx, who.Tenant, registry.DeviceFilter{Profile: p.ID}, registry.Page{Size: 1}); err != nil || devices == 0 {
				return err
			}
		}
		views = append(views, namedView{entity{"DEVICE_PROFILE", p.ID}, p.Name})
		return nil
	})
	if err != nil {
		return err
	}
	return writeValue(c, views)
}

// getProfileInfo serves GET /api/deviceProfileInfo/{profileId}.
func getProfileInfo(s *server, c *gin.Context, who *auth.Principal) error {
	return withProfile(c, func(id uuid.UUID) error {
		p, err := s.dir.Profile(c.Request.Context(), who.Tenant, id)
		if err != nil {
			return err
		}
		return writeValue(c, profileInfoOf(&p))
	})
}

// profileInfosByIDs serves GET /api/deviceProfileInfos/list?deviceProfileIds=a,b. Ids that name nothing are left out.
func profileInfosByIDs(s *server, c *gin.Context, who *auth.Principal) error {
	ids, err := askedIDs(c, "deviceProfileIds")
	if err != nil {
		return err
	}
	views := []profileInfoView{}
	for _, id := range ids {
		p, err := s.dir.Profile(c.Request.Context(), who.Tenant, id)
		if errors.Is(err, registry.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		views = append(views, profileInfoOf(&p))
	}
	return writeValue(c, views)
}

// keyDevices is how many devices of a profile are asked for their keys (as in ThingsBoard, DeviceProfileController).
const keyDevices = 100

// profileKeys serves GET /api/deviceProfile/devices/keys/timeseries?deviceProfileId= and …/attributes: the keys that devices of a
// profile, or any devices, have.
func profileKeys(table *eventstore.Table) handler {
	return func(s *server, c *gin.Context, who *auth.Principal) error {
		profile, err := optionalUUID(c, "deviceProfileId")
		if err != nil {
			return err
		}
		if profile != uuid.Nil {
			if _, err := s.dir.Profile(c.Request.Context(), who.Tenant, profile); errors.Is(err, registry.ErrNotFound) {
				return notFound("Device profile", profile)
			} else if err != nil {
				return err
			}
		}
		keys, err := s.keysOfDevices(c.Request.Context(), who, profile, table)
		if err != nil {
			return err
		}
		return writeValue(c, keys)
	}
}

func (s *server) keysOfDevices(ctx context.Context, who *auth.Principal, profile uuid.UUID, table *eventstore.Table) ([]string, error) {
	list, _, err := s.dir.Devices(ctx, who.Tenant, registry.DeviceFilter{Profile: profile}, registry.Page{Size: keyDevices})
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for i := range list {
		rows, err := s.store.Rows(ctx, eventstore.Query{
			Table: table, Limit: valuesMax, Where: []eventstore.Cond{{Column: "entity", Op: eventstore.Eq, Value: list[i].ID}},
		})
		if err != nil {
			return nil, err
		}
		for _, key := range keysOf(rows, table.Index("key")) {
			keys[key] = true
		}
	}
	return append([]string{}, slices.Sorted(maps.Keys(keys))...), nil
}
