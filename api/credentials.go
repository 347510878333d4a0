package api

import (
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
)

// credentialsView is ThingsBoard's DeviceCredentials.
type credentialsView struct {
	ID      entityID                 `json:"id"`
	Created int64                    `json:"createdTime"`
	Device  entity                   `json:"deviceId"`
	Kind    registry.CredentialsKind `json:"credentialsType"`
	Proof   string                   `json:"credentialsId"`
	Value   *string                  `json:"credentialsValue"`
	Version int64                    `json:"version"`
}

// entityID is an id without its type: credentials are no entity in ThingsBoard.
type entityID struct {
	ID string `json:"id"`
}

func credentialsViewOf(c *registry.Credentials) credentialsView {
	v := credentialsView{
		ID: entityID{c.RowID.String()}, Created: c.Created.UnixMilli(), Device: entity{"DEVICE", c.Device}, Kind: c.Kind, Proof: c.ID, Version: c.Version,
	}
	if c.Value != "" {
		v.Value = &c.Value
	}
	return v
}

// credentialsBody is what a request may say of credentials.
type credentialsBody struct {
	Device  idBody                   `json:"deviceId"`
	Kind    registry.CredentialsKind `json:"credentialsType"`
	Proof   *string                  `json:"credentialsId"`
	Value   *string                  `json:"credentialsValue"`
	Version int64                    `json:"version"`
}

func (b *credentialsBody) credentials() registry.Credentials {
	c := registry.Credentials{Device: b.Device.UUID, Kind: b.Kind, Version: b.Version}
	if c.Kind == "" {
		c.Kind = registry.AccessToken
	}
	if b.Proof != nil {
		c.ID = *b.Proof
	}
	if b.Value != nil {
		c.Value = *b.Value
	}
	return c
}

// getCredentials serves GET /api/device/{deviceId}/credentials.
func getCredentials(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "deviceId")
	if err != nil {
		return err
	}
	if _, err := s.deviceFound(c.Request.Context(), who, id); err != nil {
		return err
	}
	credentials, err := s.dir.Credentials(c.Request.Context(), who.Tenant, id)
	if err != nil {
		return err
	}
	return writeValue(c, credentialsViewOf(&credentials))
}

// saveCredentials serves POST /api/device/credentials.
func saveCredentials(s *server, c *gin.Context, who *auth.Principal) error {
	var in credentialsBody
	if err := s.readJSON(c, s.config.SmallBody, &in); err != nil {
		return err
	}
	if _, err := s.deviceFound(c.Request.Context(), who, in.Device.UUID); err != nil {
		return err
	}
	saved, err := s.dir.SaveCredentials(c.Request.Context(), who.Tenant, in.credentials())
	if err != nil {
		return err
	}
	return writeValue(c, credentialsViewOf(&saved))
}
