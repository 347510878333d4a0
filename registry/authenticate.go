package registry

import (
	"context"
	"crypto/subtle"
	"fmt"

	"callchain/transports"
)

// Authenticate makes the registry a transports.Authenticator. Like ThingsBoard's CONNECT it looks for MQTT_BASIC credentials of
// client id and user name, of the user name, of the client id if there is no user name, and then for an access token, which is
// Token or else the user name; the first that exists decides. Whatever does not fit is transports.ErrUnauthorized.
// Credentials are read from the database each time, so revoked ones are refused at once on every node.
func (r *Registry) Authenticate(ctx context.Context, c transports.Credentials) (transports.Identity, error) {
	for _, p := range candidates(c) {
		if len(p.id) > tokenBytesMax {
			continue
		}
		found, err := r.credentialsBy(ctx, p)
		if err != nil {
			return transports.Identity{}, err
		}
		if found == nil {
			continue
		}
		if !proves(*found, p, c) {
			break
		}
		return r.identity(ctx, *found)
	}
	return transports.Identity{}, transports.ErrUnauthorized
}

// candidate is one reading of what a device shows.
type candidate struct {
	kind CredentialsKind
	id   string
}

func candidates(c transports.Credentials) []candidate {
	var out []candidate
	switch {
	case c.UserName != "" && c.ClientID != "":
		out = append(out, candidate{MQTTBasic, basic{ClientID: c.ClientID, UserName: c.UserName}.id()}, candidate{MQTTBasic, basic{UserName: c.UserName}.id()})
	case c.UserName != "":
		out = append(out, candidate{MQTTBasic, basic{UserName: c.UserName}.id()})
	case c.ClientID != "":
		out = append(out, candidate{MQTTBasic, basic{ClientID: c.ClientID}.id()})
	}
	token := c.Token
	if token == "" {
		token = c.UserName
	}
	if token != "" {
		out = append(out, candidate{AccessToken, token})
	}
	return out
}

func (r *Registry) credentialsBy(ctx context.Context, p candidate) (*Credentials, error) {
	var found *Credentials
	err := r.query(ctx).each(`SELECT `+credentialsColumns+` FROM device_credentials c WHERE c.lookup = $1`, []any{lookup(p.kind, p.id)},
		func(row row) error {
			c, err := scanCredentials(row)
			found = &c
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("reading credentials: %w", err)
	}
	return found, nil
}

// proves compares in constant time. Credentials without a password prove themselves by their id.
func proves(stored Credentials, p candidate, shown transports.Credentials) bool {
	if stored.Kind != p.kind || !equal(stored.ID, p.id) {
		return false
	}
	if stored.Kind == AccessToken {
		return true
	}
	b, err := parseBasic(stored.Value)
	if err != nil {
		return false // it was checked when it was saved
	}
	return (b.ClientID == "" || equal(b.ClientID, shown.ClientID)) &&
		(b.UserName == "" || equal(b.UserName, shown.UserName)) &&
		(b.Password == "" || equal(b.Password, shown.Password))
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (r *Registry) identity(ctx context.Context, c Credentials) (transports.Identity, error) {
	f, err := r.Facts(ctx, c.Device)
	if err != nil {
		return transports.Identity{}, fmt.Errorf("reading the device of the credentials: %w", err)
	}
	d := f.Device
	return transports.Identity{
		Tenant: d.Tenant, Device: d.ID, Partition: d.Partition, Name: d.Name, Type: d.Type, Profile: d.Profile, Gateway: f.Gateway,
		Credentials: c.Version,
	}, nil
}
