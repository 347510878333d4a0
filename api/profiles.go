package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// profileView is ThingsBoard's DeviceProfile.
type profileView struct {
	ID            entity          `json:"id"`
	Created       int64           `json:"createdTime"`
	Tenant        entity          `json:"tenantId"`
	Name          string          `json:"name"`
	Description   *string         `json:"description"`
	Image         *string         `json:"image"`
	Default       bool            `json:"default"`
	Chain         *entity         `json:"defaultRuleChainId"`
	Dashboard     *entity         `json:"defaultDashboardId"`
	Queue         *string         `json:"defaultQueueName"`
	ProvisionKey  *string         `json:"provisionDeviceKey"`
	Firmware      *entity         `json:"firmwareId"`
	Software      *entity         `json:"softwareId"`
	EdgeChain     *entity         `json:"defaultEdgeRuleChainId"`
	External      *entity         `json:"externalId"`
	Version       int64           `json:"version"`
	Type          string          `json:"type"`
	Transport     string          `json:"transportType"`
	ProvisionType string          `json:"provisionType"`
	Data          json.RawMessage `json:"profileData"`
}

func profileViewOf(p *registry.Profile) profileView {
	v := profileView{
		ID: entity{"DEVICE_PROFILE", p.ID}, Created: p.Created.UnixMilli(), Tenant: entity{"TENANT", p.Tenant}, Name: p.Name, Default: p.Default,
		Version: p.Version, Type: "DEFAULT", Transport: p.Transport, ProvisionType: "DISABLED", Data: p.Data,
	}
	if p.Description != "" {
		v.Description = &p.Description
	}
	if p.Chain != uuid.Nil {
		v.Chain = &entity{"RULE_CHAIN", p.Chain}
	}
	if len(v.Data) == 0 {
		v.Data = json.RawMessage(`{"configuration":{"type":"DEFAULT"},"transportConfiguration":{"type":"DEFAULT"}}`)
	}
	return v
}

// profileInfoView is ThingsBoard's DeviceProfileInfo.
type profileInfoView struct {
	ID        entity  `json:"id"`
	Tenant    entity  `json:"tenantId"`
	Name      string  `json:"name"`
	Image     *string `json:"image"`
	Dashboard *entity `json:"defaultDashboardId"`
	Type      string  `json:"type"`
	Transport string  `json:"transportType"`
}

func profileInfoOf(p *registry.Profile) profileInfoView {
	return profileInfoView{
		ID: entity{"DEVICE_PROFILE", p.ID}, Tenant: entity{"TENANT", p.Tenant}, Name: p.Name, Type: "DEFAULT", Transport: p.Transport,
	}
}

// profileBody is what a request may say of a profile.
type profileBody struct {
	ID          idBody          `json:"id"`
	Name        string          `json:"name"`
	Description *string         `json:"description"`
	Transport   string          `json:"transportType"`
	Chain       idBody          `json:"defaultRuleChainId"`
	Default     bool            `json:"default"`
	Data        json.RawMessage `json:"profileData"`
	Version     int64           `json:"version"`
}

// saveProfile serves POST /api/deviceProfile.
func saveProfile(s *server, c *gin.Context, who *auth.Principal) error {
	var in profileBody
	if err := s.readJSON(c, s.config.Body, &in); err != nil {
		return err
	}
	p := registry.Profile{
		ID: in.ID.UUID, Tenant: who.Tenant, Name: in.Name, Transport: in.Transport, Chain: in.Chain.UUID, Default: in.Default, Data: given(in.Data),
		Version: in.Version,
	}
	if in.Description != nil {
		p.Description = *in.Description
	}
	if p.Transport == "" {
		p.Transport = "DEFAULT"
	}
	saved, err := s.dir.SaveProfile(c.Request.Context(), p)
	if err != nil {
		return err
	}
	return writeValue(c, profileViewOf(&saved))
}

// getProfile serves GET /api/deviceProfile/{profileId}.
func getProfile(s *server, c *gin.Context, who *auth.Principal) error {
	return withProfile(c, func(id uuid.UUID) error {
		p, err := s.dir.Profile(c.Request.Context(), who.Tenant, id)
		if err != nil {
			return err
		}
		return writeValue(c, profileViewOf(&p))
	})
}

// deleteProfile serves DELETE /api/deviceProfile/{profileId}.
func deleteProfile(s *server, c *gin.Context, who *auth.Principal) error {
	return withProfile(c, func(id uuid.UUID) error {
		if err := s.dir.DeleteProfile(c.Request.Context(), who.Tenant, id); err != nil {
			return err
		}
		writeEmpty(c, http.StatusOK)
		return nil
	})
}

// makeDefaultProfile serves POST /api/deviceProfile/{profileId}/default.
func makeDefaultProfile(s *server, c *gin.Context, who *auth.Principal) error {
	return withProfile(c, func(id uuid.UUID) error {
		p, err := s.dir.MakeDefault(c.Request.Context(), who.Tenant, id)
		if err != nil {
			return err
		}
		return writeValue(c, profileViewOf(&p))
	})
}

// withProfile reads the id in the path and names it when it is not found.
func withProfile(c *gin.Context, do func(uuid.UUID) error) error {
	id, err := pathUUID(c, "profileId")
	if err != nil {
		return err
	}
	if err := do(id); errors.Is(err, registry.ErrNotFound) {
		return notFound("Device profile", id)
	} else if err != nil {
		return err
	}
	return nil
}

// listProfiles serves GET /api/deviceProfiles.
func listProfiles(s *server, c *gin.Context, who *auth.Principal) error {
	return s.writeProfiles(c, who, func(p *registry.Profile) any { return profileViewOf(p) })
}

// listProfileInfos serves GET /api/deviceProfileInfos.
func listProfileInfos(s *server, c *gin.Context, who *auth.Principal) error {
	return s.writeProfiles(c, who, func(p *registry.Profile) any { return profileInfoOf(p) })
}

func (s *server) writeProfiles(c *gin.Context, who *auth.Principal, view func(*registry.Profile) any) error {
	p, err := askedPage(c)
	if err != nil {
		return err
	}
	p.Size = min(p.Size, listMax)
	list, total, err := s.dir.Profiles(c.Request.Context(), who.Tenant, p)
	if err != nil {
		return err
	}
	return writePage(c, p, total, list, view)
}

// defaultProfileInfo serves GET /api/deviceProfileInfo/default.
func defaultProfileInfo(s *server, c *gin.Context, who *auth.Principal) error {
	p, err := s.dir.DefaultProfile(c.Request.Context(), who.Tenant)
	if err != nil {
		return err
	}
	return writeValue(c, profileInfoOf(&p))
}
