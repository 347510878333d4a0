package auth_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"callchain/registry"
	"callchain/registry/auth"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

var (
	key  = []byte(strings.Repeat("k", 64))
	user = registry.User{
		ID: uuid.MustParse("0193a0c4-0000-7000-8000-000000000001"), Tenant: uuid.MustParse("0193a0c4-0000-7000-8000-000000000002"),
		Email: "tenant@example.org", Authority: registry.TenantAdmin, FirstName: "Ada", Enabled: true,
	}
)

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func issuer(t testing.TB, change func(*auth.Config)) (*auth.Issuer, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	config := auth.Config{Key: key, Now: c.now}
	if change != nil {
		change(&config)
	}
	i, err := auth.NewIssuer(config)
	if err != nil {
		t.Fatal(err)
	}
	return i, c
}

func issue(t testing.TB, i *auth.Issuer) auth.Pair {
	t.Helper()
	p, err := i.Issue(user, "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func part(t *testing.T, token string, n int) map[string]any {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[n])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// The claims of ThingsBoard's JwtTokenFactory (1.8 of its RPC facts).
func TestTokensHaveThingsBoardsClaims(t *testing.T) {
	i, c := issuer(t, nil)
	pair := issue(t, i)
	if h := part(t, pair.Access, 0); len(h) != 1 || h["alg"] != "HS512" {
		t.Errorf("header is %v", h)
	}
	access := part(t, pair.Access, 1)
	for name, want := range map[string]any{
		"sub": "tenant@example.org", "userId": user.ID.String(), "iss": "thingsboard.io", "enabled": true, "isPublic": false,
		"firstName": "Ada", "tenantId": user.Tenant.String(), "customerId": "13814000-1dd2-11b2-8080-808080808080",
		"iat": float64(c.at.Unix()), "exp": float64(c.at.Unix() + 9000),
	} {
		if access[name] != want {
			t.Errorf("%s is %v, want %v", name, access[name], want)
		}
	}
	if fmt.Sprint(access["scopes"]) != "[TENANT_ADMIN]" {
		t.Errorf("scopes are %v", access["scopes"])
	}
	refresh := part(t, pair.Refresh, 1)
	want := []string{"exp", "iat", "isPublic", "iss", "jti", "scopes", "sessionId", "sub", "userId"}
	if got := slices.Sorted(maps.Keys(refresh)); !slices.Equal(got, want) {
		t.Errorf("refresh token has %v", got)
	}
	if fmt.Sprint(refresh["scopes"]) != "[REFRESH_TOKEN]" || refresh["exp"] != float64(c.at.Unix()+604800) || refresh["sessionId"] != access["sessionId"] {
		t.Errorf("refresh token is %v", refresh)
	}
}

func TestVerifyTellsWhoItIs(t *testing.T) {
	i, _ := issuer(t, nil)
	pair := issue(t, i)
	for range 2 { // the second answer comes from memory
		p, err := i.Verify(pair.Access)
		if err != nil || p.User != user.ID || p.Tenant != user.Tenant || p.Customer != uuid.Nil || p.Authority != registry.TenantAdmin ||
			p.Actor != "user:"+user.ID.String() || p.Session == "" {
			t.Errorf("principal is %+v (%v)", p, err)
		}
	}
	r, err := i.VerifyRefresh(pair.Refresh)
	if err != nil || r.User != user.ID || r.Session == "" {
		t.Errorf("principal is %+v (%v)", r, err)
	}
}

func signed(method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
	c := jwt.MapClaims{
		"sub": "x", "userId": user.ID.String(), "scopes": []string{"TENANT_ADMIN"}, "sessionId": "s", "iss": "thingsboard.io",
		"iat": 1795435200, "exp": 1795435200 + 100, "tenantId": user.Tenant.String(), "customerId": user.Tenant.String(),
	}
	change(c)
	text, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		panic(err)
	}
	return text
}

func TestBadTokensAreRefused(t *testing.T) {
	i, c := issuer(t, nil)
	if c.at.Unix() != 1795435200 {
		t.Fatal("the test's times are wrong: ", c.at.Unix())
	}
	good := issue(t, i)
	same := func(jwt.MapClaims) {}
	with := func(name string, v any) string {
		return signed(jwt.SigningMethodHS512, key, func(c jwt.MapClaims) { c[name] = v })
	}
	without := func(name string) string {
		return signed(jwt.SigningMethodHS512, key, func(c jwt.MapClaims) { delete(c, name) })
	}
	if _, err := i.Verify(signed(jwt.SigningMethodHS512, key, same)); err != nil {
		t.Fatalf("the token that the others vary is refused: %v", err)
	}
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"empty":                {"", auth.ErrMalformed},
		"garbage":              {"garbage", auth.ErrMalformed},
		"three parts":          {"a.b.c", auth.ErrMalformed},
		"huge":                 {strings.Repeat("a", 1<<20), auth.ErrMalformed},
		"cut":                  {good.Access[:len(good.Access)-2], auth.ErrExpired},
		"other key":            {signed(jwt.SigningMethodHS512, []byte("other"), same), auth.ErrExpired},
		"HS256":                {signed(jwt.SigningMethodHS256, key, same), auth.ErrExpired},
		"none":                 {signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, same), auth.ErrExpired},
		"other issuer":         {with("iss", "somebody"), auth.ErrExpired},
		"expired":              {with("exp", 1795435200), auth.ErrExpired},
		"without exp":          {without("exp"), auth.ErrExpired},
		"without iat":          {without("iat"), auth.ErrMalformed},
		"without scopes":       {without("scopes"), auth.ErrMalformed},
		"two scopes":           {with("scopes", []string{"TENANT_ADMIN", "SYS_ADMIN"}), auth.ErrMalformed},
		"unknown scope":        {with("scopes", []string{"ROOT"}), auth.ErrMalformed},
		"scopes a string":      {with("scopes", "TENANT_ADMIN"), auth.ErrMalformed},
		"user no id":           {with("userId", "me"), auth.ErrMalformed},
		"tenant no id":         {with("tenantId", "mine"), auth.ErrMalformed},
		"refresh for access":   {good.Refresh, auth.ErrNotAccess},
		"tampered but genuine": {tamper(good.Access), auth.ErrExpired},
	} {
		if _, err := i.Verify(c.token); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := i.VerifyRefresh(good.Access); !errors.Is(err, auth.ErrNotAccess) {
		t.Errorf("an access token as refresh token: %v", err)
	}
}

func tamper(token string) string {
	p := strings.Split(token, ".")
	claims, err := base64.RawURLEncoding.DecodeString(p[1])
	if err != nil {
		panic(err)
	}
	p[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(claims), "TENANT_ADMIN", "SYS_ADMIN", 1)))
	return strings.Join(p, ".")
}

func TestTokensExpireAlsoInMemory(t *testing.T) {
	i, c := issuer(t, nil)
	pair := issue(t, i)
	if _, err := i.Verify(pair.Access); err != nil {
		t.Fatal(err)
	}
	c.at = c.at.Add(9000*time.Second - 1)
	if _, err := i.Verify(pair.Access); err != nil {
		t.Errorf("at its last moment: %v", err)
	}
	c.at = c.at.Add(1)
	if _, err := i.Verify(pair.Access); !errors.Is(err, auth.ErrExpired) {
		t.Errorf("after its life: %v", err)
	}
}

func TestRevokedTokensAreRefusedAlsoInMemory(t *testing.T) {
	revoked := false
	i, _ := issuer(t, func(c *auth.Config) {
		c.Revoked = func(id uuid.UUID, _ string, _ time.Time) bool { return revoked && id == user.ID }
	})
	pair := issue(t, i)
	if _, err := i.Verify(pair.Access); err != nil {
		t.Fatal(err)
	}
	revoked = true
	if _, err := i.Verify(pair.Access); !errors.Is(err, auth.ErrExpired) {
		t.Errorf("access: %v", err)
	}
	if _, err := i.VerifyRefresh(pair.Refresh); !errors.Is(err, auth.ErrExpired) {
		t.Errorf("refresh: %v", err)
	}
}

func TestShortSigningKeyIsRefused(t *testing.T) {
	if _, err := auth.NewIssuer(auth.Config{Key: key[:63]}); err == nil {
		t.Error("a key of 63 bytes is taken")
	}
}

func FuzzVerify(f *testing.F) {
	i, _ := issuer(f, nil)
	good := signed(jwt.SigningMethodHS512, key, func(jwt.MapClaims) {}) // the same in every process of the fuzzer
	for _, s := range []string{good, issue(f, i).Refresh, tamper(good), "", "a.b.c", "....", signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, func(jwt.MapClaims) {})} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		p, err := i.Verify(token)
		if err == nil && token != good {
			t.Fatalf("%q speaks for %+v", token, p)
		}
		if err != nil && !errors.Is(err, auth.ErrMalformed) && !errors.Is(err, auth.ErrExpired) && !errors.Is(err, auth.ErrNotAccess) {
			t.Fatalf("%q: the error %v has no kind", token, err)
		}
	})
}

func BenchmarkVerifyKnown(b *testing.B) {
	i, _ := issuer(b, nil)
	pair := issue(b, i)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Verify(pair.Access); err != nil {
			b.Fatal(err)
		}
	}
}
