package api

import (
	"encoding/json"
	"errors"

	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
)

// userView is ThingsBoard's User.
type userView struct {
	ID         entity             `json:"id"`
	Created    int64              `json:"createdTime"`
	Tenant     entity             `json:"tenantId"`
	Customer   entity             `json:"customerId"`
	Email      string             `json:"email"`
	Authority  registry.Authority `json:"authority"`
	FirstName  string             `json:"firstName"`
	LastName   string             `json:"lastName"`
	Phone      *string            `json:"phone"`
	Name       string             `json:"name"`
	Additional json.RawMessage    `json:"additionalInfo"`
}

func userViewOf(u *registry.User) userView {
	return userView{
		ID: entity{"USER", u.ID}, Created: u.Created.UnixMilli(), Tenant: entity{"TENANT", orNobody(u.Tenant)},
		Customer: entity{"CUSTOMER", orNobody(u.Customer)}, Email: u.Email, Authority: u.Authority, FirstName: u.FirstName, LastName: u.LastName,
		Name: u.Email, Additional: orNull(u.Additional),
	}
}

// currentUser serves GET /api/auth/user.
func currentUser(s *server, c *gin.Context, who *auth.Principal) error {
	u, err := s.dir.UserByID(c.Request.Context(), who.User)
	if err != nil {
		return err
	}
	return writeValue(c, userViewOf(&u))
}

// getUser serves GET /api/user/{userId}: oneself, and for administrators the users of the tenant.
func getUser(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "userId")
	if err != nil {
		return err
	}
	u, err := s.dir.UserByID(c.Request.Context(), id)
	if errors.Is(err, registry.ErrNotFound) || err == nil && who.Authority != registry.SysAdmin && u.Tenant != who.Tenant {
		return notFound("User", id)
	}
	if err != nil {
		return err
	}
	if who.Authority == registry.CustomerUser && id != who.User {
		return errPermission
	}
	return writeValue(c, userViewOf(&u))
}

// passwordsBody is ThingsBoard's ChangePasswordRequest.
type passwordsBody struct {
	Current string `json:"currentPassword"`
	Next    string `json:"newPassword"`
}

// changePassword serves POST /api/auth/changePassword: the caller's own, for new tokens.
func changePassword(s *server, c *gin.Context, who *auth.Principal) error {
	var in passwordsBody
	if err := s.readJSON(c, s.config.SmallBody, &in); err != nil {
		return err
	}
	if in.Current == in.Next {
		return badBody(errors.New("newPassword: it must be another one than the current password"))
	}
	tokens, err := s.access.ChangePassword(c.Request.Context(), *who, in.Current, in.Next, c.RemoteIP())
	if errors.Is(err, registry.ErrBadPassword) {
		return &apiError{status: 400, errorCode: codeBadRequest, message: "Current password doesn't match!", code: "bad_credentials"}
	}
	if err != nil {
		return err
	}
	return writeTokens(c, tokens)
}

// tenantView is ThingsBoard's Tenant; only what is kept of it has a value.
type tenantView struct {
	ID         entity          `json:"id"`
	Created    int64           `json:"createdTime"`
	Title      string          `json:"title"`
	Name       string          `json:"name"`
	Region     *string         `json:"region"`
	Profile    *entity         `json:"tenantProfileId"`
	Country    *string         `json:"country"`
	State      *string         `json:"state"`
	City       *string         `json:"city"`
	Address    *string         `json:"address"`
	Address2   *string         `json:"address2"`
	Zip        *string         `json:"zip"`
	Phone      *string         `json:"phone"`
	Email      *string         `json:"email"`
	Additional json.RawMessage `json:"additionalInfo"`
}

// getTenant serves GET /api/tenant/{tenantId} and GET /api/tenant/info/{tenantId}: the own tenant, for a system administrator any.
func getTenant(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "tenantId")
	if err != nil {
		return err
	}
	if who.Authority != registry.SysAdmin && id != who.Tenant {
		return errPermission
	}
	t, err := s.dir.Tenant(c.Request.Context(), id)
	if errors.Is(err, registry.ErrNotFound) {
		return notFound("Tenant", id)
	}
	if err != nil {
		return err
	}
	return writeValue(c, tenantView{
		ID: entity{"TENANT", t.ID}, Created: t.Created.UnixMilli(), Title: t.Title, Name: t.Title, Additional: orNull(nil),
	})
}
