// Package auth lets users in: it issues and checks the tokens that ThingsBoard's clients expect, and slows down who guesses
// passwords. It knows no HTTP; status codes are chosen where the requests come in.
package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"callchain/registry"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Config are the settings of an issuer; zero lives take ThingsBoard's.
type Config struct {
	Key         []byte        // at least 64 bytes, for HS512 (RFC 7518 section 3.2)
	AccessLife  time.Duration // 9000 s by default
	RefreshLife time.Duration // 604800 s by default
	Verified    int           // verified tokens held in memory, 10,000 by default
	Now         func() time.Time
	// Revoked tells whether a token of this user and session, issued at a time, was voided since; nil: never.
	Revoked func(user uuid.UUID, session string, issued time.Time) bool
}

// signingKeyMin is the length of a SHA-512 hash: a shorter key would be the weakest part.
const signingKeyMin = 64

// Issuer makes and checks tokens. It may be used from many goroutines.
type Issuer struct {
	c        Config
	parser   *jwt.Parser
	verified *verified
}

// Pair is what a login gives.
type Pair struct {
	Access  string
	Refresh string
}

// NewIssuer fails if the key is shorter than 64 bytes.
func NewIssuer(c Config) (*Issuer, error) {
	if len(c.Key) < signingKeyMin {
		return nil, fmt.Errorf("the signing key of tokens must have at least %d bytes, has %d", signingKeyMin, len(c.Key))
	}
	if c.AccessLife == 0 {
		c.AccessLife = 9000 * time.Second
	}
	if c.RefreshLife == 0 {
		c.RefreshLife = 604800 * time.Second
	}
	if c.Verified == 0 {
		c.Verified = 10_000
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Revoked == nil {
		c.Revoked = func(uuid.UUID, string, time.Time) bool { return false }
	}
	return &Issuer{c: c, verified: newVerified(c.Verified), parser: jwt.NewParser(
		// Neither "none" nor a weaker hash; and one token has one spelling.
		jwt.WithValidMethods([]string{jwt.SigningMethodHS512.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithIssuer(issuerName), jwt.WithExpirationRequired(), jwt.WithTimeFunc(c.Now),
	)}, nil
}

// Issue makes the tokens of a login. An empty session begins a new one; a refresh hands in the one it goes on with.
func (i *Issuer) Issue(u registry.User, session string) (Pair, error) {
	if session == "" {
		session = uuid.NewString()
	}
	now := i.c.Now()
	access, err := i.sign(accessClaims{
		Subject: u.Email, UserID: u.ID.String(), Scopes: []string{string(u.Authority)}, SessionID: session,
		Issuer: issuerName, Issued: jwt.NewNumericDate(now), Expires: jwt.NewNumericDate(now.Add(i.c.AccessLife)),
		FirstName: u.FirstName, LastName: u.LastName, Enabled: u.Enabled,
		TenantID: formatID(u.Tenant), CustomerID: formatID(u.Customer),
	})
	if err != nil {
		return Pair{}, err
	}
	refresh, err := i.sign(refreshClaims{
		Subject: u.Email, UserID: u.ID.String(), Scopes: []string{refreshScope}, SessionID: session,
		Issuer: issuerName, Issued: jwt.NewNumericDate(now), Expires: jwt.NewNumericDate(now.Add(i.c.RefreshLife)),
		ID: uuid.NewString(),
	})
	return Pair{access, refresh}, err
}

func (i *Issuer) sign(c jwt.Claims) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodHS512, c)
	delete(token.Header, "typ") // ThingsBoard's tokens have no typ
	text, err := token.SignedString(i.c.Key)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return text, nil
}

// Verify tells whom an access token speaks for. It fails with ErrMalformed, ErrExpired or ErrNotAccess. A token that was
// verified before costs a hash.
func (i *Issuer) Verify(token string) (Principal, error) {
	if len(token) > tokenMax {
		return Principal{}, fmt.Errorf("%w: more than %d bytes", ErrMalformed, tokenMax)
	}
	key := hashOf(token)
	if p, ok := i.verified.get(key, i.c.Now()); ok {
		return *p, i.notRevoked(p)
	}
	p, err := i.check(token, false)
	if err != nil {
		return Principal{}, err
	}
	i.verified.put(key, &p)
	return p, nil
}

// VerifyRefresh tells whom a refresh token speaks for: user, e-mail and session only. It fails as Verify does.
func (i *Issuer) VerifyRefresh(token string) (Principal, error) {
	if len(token) > tokenMax {
		return Principal{}, fmt.Errorf("%w: more than %d bytes", ErrMalformed, tokenMax)
	}
	return i.check(token, true)
}

func (i *Issuer) check(token string, refresh bool) (Principal, error) {
	var c anyClaims
	_, err := i.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return i.c.Key, nil })
	if err != nil {
		return Principal{}, classify(err)
	}
	p, err := c.principal(refresh)
	if err != nil {
		return Principal{}, err
	}
	return p, i.notRevoked(&p)
}

func (i *Issuer) notRevoked(p *Principal) error {
	if i.c.Revoked(p.User, p.Session, p.Issued) {
		return fmt.Errorf("%w: it was revoked", ErrExpired)
	}
	return nil
}

// classify follows ThingsBoard: what cannot be read is malformed; what is read but not ours, or over, has expired.
func classify(err error) error {
	if errors.Is(err, jwt.ErrTokenMalformed) || errors.Is(err, jwt.ErrTokenUnverifiable) {
		return ErrMalformed
	}
	return ErrExpired
}

// hashOf keeps tokens themselves out of memory, and gives keys of one length.
func hashOf(token string) [sha256.Size]byte {
	var buf [1024]byte // most tokens fit; a conversion of the string would allocate
	if len(token) > len(buf) {
		return sha256.Sum256([]byte(token))
	}
	return sha256.Sum256(buf[:copy(buf[:], token)])
}
