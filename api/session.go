package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"

	"callchain/engine/projection"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// loginBody is ThingsBoard's LoginRequest.
type loginBody struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// refreshBody asks for new tokens.
type refreshBody struct {
	RefreshToken string `json:"refreshToken"`
}

// tokensView is ThingsBoard's JwtPair.
type tokensView struct {
	Token        string `json:"token"`
	RefreshToken string `json:"refreshToken"`
}

// login serves POST /api/auth/login.
func login(s *server, c *gin.Context, _ *auth.Principal) error {
	var in loginBody
	if err := s.readJSON(c, s.config.SmallBody, &in); err != nil {
		return err
	}
	tokens, err := s.access.Login(c.Request.Context(), in.Username, in.Password, c.RemoteIP())
	if err != nil {
		return err
	}
	return writeTokens(c, tokens)
}

// refresh serves POST /api/auth/token.
func refresh(s *server, c *gin.Context, _ *auth.Principal) error {
	var in refreshBody
	if err := s.readJSON(c, s.config.SmallBody, &in); err != nil {
		return err
	}
	if in.RefreshToken == "" {
		return errNoToken
	}
	tokens, err := s.access.Refresh(c.Request.Context(), in.RefreshToken)
	if errors.Is(err, registry.ErrNotFound) { // the user was deleted
		return errOldToken
	}
	if err != nil {
		return err
	}
	return writeTokens(c, tokens)
}

func writeTokens(c *gin.Context, t auth.Pair) error {
	return writeValue(c, tokensView{t.Access, t.Refresh})
}

// logout serves POST /api/auth/logout.
func logout(s *server, c *gin.Context, who *auth.Principal) error {
	if err := s.access.Logout(c.Request.Context(), *who); err != nil {
		return err
	}
	writeEmpty(c, http.StatusOK)
	return nil
}

// entity is how ThingsBoard writes an id.
type entity struct {
	EntityType string    `json:"entityType"`
	ID         uuid.UUID `json:"id"`
}

// nobody is ThingsBoard's EntityId.NULL_UUID, which stands where there is no customer or tenant.
var nobody = uuid.MustParse("13814000-1dd2-11b2-8080-808080808080")

func orNobody(id uuid.UUID) uuid.UUID {
	if id == uuid.Nil {
		return nobody
	}
	return id
}

// passwordPolicyView is ThingsBoard's UserPasswordPolicy.
type passwordPolicyView struct {
	MinimumLength      int  `json:"minimumLength"`
	MaximumLength      int  `json:"maximumLength"`
	Uppercase          *int `json:"minimumUppercaseLetters"`
	Lowercase          *int `json:"minimumLowercaseLetters"`
	Digits             *int `json:"minimumDigits"`
	Special            *int `json:"minimumSpecialCharacters"`
	Spaces             bool `json:"allowWhitespaces"`
	ForceReset         bool `json:"forceUserToResetPasswordIfNotValid"`
	ExpirationDays     *int `json:"passwordExpirationPeriodDays"`
	ReuseFrequencyDays *int `json:"passwordReuseFrequencyDays"`
}

// passwordPolicy serves GET /api/noauth/userPasswordPolicy, by which clients also find out whether anybody is there.
func passwordPolicy(_ *server, c *gin.Context, _ *auth.Principal) error {
	return writeValue(c, passwordPolicyView{MinimumLength: 6, MaximumLength: 255, Spaces: true})
}

// readJSON reads a body into a struct. Unknown fields are ignored, as ThingsBoard's clients send more than is kept here.
func (s *server) readJSON(c *gin.Context, limit int64, into any) error {
	b, err := s.readBody(c, limit)
	if err != nil {
		return err
	}
	defer b.release()
	if string(bytes.TrimSpace(b.bytes)) == "null" {
		return badBody(errors.New("an object is expected"))
	}
	if hasNUL(b.bytes) {
		return badBody(errors.New(`a text has the character \u0000, which the database cannot keep`))
	}
	if err := json.Unmarshal(b.bytes, into); err != nil {
		return badBody(err)
	}
	return nil
}

func writeValue(c *gin.Context, v any) error {
	out, err := marshal(v)
	if err != nil {
		return err
	}
	writeJSON(c, http.StatusOK, out)
	return nil
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

// instant is a point in time as all answers show it.
type instant = projection.Time
