package auth

import (
	"errors"
	"fmt"
	"time"

	"callchain/registry"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

var (
	// ErrMalformed: the text is no token (ThingsBoard answers 401 "Invalid username or password", code 10).
	ErrMalformed = errors.New("the token is malformed")
	// ErrExpired: the token's life is over, it was revoked, or somebody else signed it (401 "Token has expired", code 11).
	ErrExpired = errors.New("the token has expired")
	// ErrNotAccess: a refresh token was shown where an access token is wanted, or the other way round.
	ErrNotAccess = errors.New("the token is of the wrong kind")
)

const (
	issuerName   = "thingsboard.io" // clients compare it
	refreshScope = "REFRESH_TOKEN"
	tokenMax     = 8 << 10 // bytes
)

// nilID is ThingsBoard's id of "no tenant" and "no customer" in tokens (EntityId.NULL_UUID).
const nilID = "13814000-1dd2-11b2-8080-808080808080"

// accessClaims are the claims of an access token, in ThingsBoard's order (JwtTokenFactory).
type accessClaims struct {
	Subject    string           `json:"sub"`
	UserID     string           `json:"userId"`
	Scopes     []string         `json:"scopes"`
	SessionID  string           `json:"sessionId"`
	Expires    *jwt.NumericDate `json:"exp"`
	Issuer     string           `json:"iss"`
	Issued     *jwt.NumericDate `json:"iat"`
	FirstName  string           `json:"firstName,omitempty"`
	LastName   string           `json:"lastName,omitempty"`
	Enabled    bool             `json:"enabled"`
	IsPublic   bool             `json:"isPublic"`
	TenantID   string           `json:"tenantId"`
	CustomerID string           `json:"customerId"`
}

// refreshClaims are the claims of a refresh token.
type refreshClaims struct {
	Subject   string           `json:"sub"`
	UserID    string           `json:"userId"`
	Scopes    []string         `json:"scopes"`
	SessionID string           `json:"sessionId"`
	Expires   *jwt.NumericDate `json:"exp"`
	Issuer    string           `json:"iss"`
	Issued    *jwt.NumericDate `json:"iat"`
	IsPublic  bool             `json:"isPublic"`
	ID        string           `json:"jti"`
}

// anyClaims reads both kinds.
type anyClaims struct {
	accessClaims
	ID string `json:"jti"`
}

// GetExpirationTime and the five methods below are jwt.Claims; the parser checks expiry and issuer through them.
func (c accessClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }

// GetIssuedAt is iat.
func (c accessClaims) GetIssuedAt() (*jwt.NumericDate, error) { return c.Issued, nil }

// GetNotBefore is nothing: ThingsBoard sets no nbf.
func (c accessClaims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }

// GetIssuer is iss.
func (c accessClaims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject is sub, the e-mail.
func (c accessClaims) GetSubject() (string, error) { return c.Subject, nil }

// GetAudience is nothing: ThingsBoard sets no aud.
func (c accessClaims) GetAudience() (jwt.ClaimStrings, error) { return nil, nil }

// GetExpirationTime and the five methods below are jwt.Claims.
func (c refreshClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }

// GetIssuedAt is iat.
func (c refreshClaims) GetIssuedAt() (*jwt.NumericDate, error) { return c.Issued, nil }

// GetNotBefore is nothing: ThingsBoard sets no nbf.
func (c refreshClaims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }

// GetIssuer is iss.
func (c refreshClaims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject is sub, the e-mail.
func (c refreshClaims) GetSubject() (string, error) { return c.Subject, nil }

// GetAudience is nothing: ThingsBoard sets no aud.
func (c refreshClaims) GetAudience() (jwt.ClaimStrings, error) { return nil, nil }

// Principal is who a token speaks for.
type Principal struct {
	User      uuid.UUID
	Tenant    uuid.UUID // uuid.Nil of a system administrator
	Customer  uuid.UUID // uuid.Nil of an administrator
	Authority registry.Authority
	Email     string
	FirstName string
	LastName  string
	Session   string // of the login that began it; a refresh keeps it
	Actor     string // "user:<id>", as events name it
	Issued    time.Time
	Expires   time.Time
}

// principal reads the claims of a token whose signature, issuer and life were checked.
func (c *anyClaims) principal(refresh bool) (Principal, error) {
	if len(c.Scopes) != 1 || c.Issued == nil || c.Expires == nil {
		return Principal{}, fmt.Errorf("%w: it needs one scope, iat and exp", ErrMalformed)
	}
	if refresh != (c.Scopes[0] == refreshScope) {
		return Principal{}, ErrNotAccess
	}
	p := Principal{
		Email: c.Subject, FirstName: c.FirstName, LastName: c.LastName, Session: c.SessionID,
		Issued: c.Issued.Time, Expires: c.Expires.Time,
	}
	var err error
	if p.User, err = uuid.Parse(c.UserID); err != nil {
		return Principal{}, fmt.Errorf("%w: userId", ErrMalformed)
	}
	p.Actor = "user:" + p.User.String()
	if refresh {
		return p, nil
	}
	p.Authority = registry.Authority(c.Scopes[0])
	tenant, err1 := parseID(c.TenantID)
	customer, err2 := parseID(c.CustomerID)
	if err := errors.Join(err1, err2); err != nil {
		return Principal{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	p.Tenant, p.Customer = tenant, customer
	return p, p.checkAuthority()
}

func (p *Principal) checkAuthority() error {
	switch p.Authority {
	case registry.SysAdmin, registry.TenantAdmin, registry.CustomerUser:
		return nil
	}
	return fmt.Errorf("%w: scope %q", ErrMalformed, p.Authority)
}

func parseID(s string) (uuid.UUID, error) {
	if s == nilID {
		return uuid.Nil, nil
	}
	return uuid.Parse(s)
}

func formatID(id uuid.UUID) string {
	if id == uuid.Nil {
		return nilID
	}
	return id.String()
}
