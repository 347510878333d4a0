package registry

import (
	"context"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
)

// generatedTokenLen is ThingsBoard's length of a token made at random (1.10 of its RPC facts).
const generatedTokenLen = 20

// basic is the value of MQTT_BASIC credentials, with ThingsBoard's field names.
type basic struct {
	ClientID string `json:"clientId"`
	UserName string `json:"userName"`
	Password string `json:"password"`
}

// id is ThingsBoard's credentialsId: the SHA3-256 of client id and user name, or of the one that is set.
func (b basic) id() string {
	switch {
	case b.ClientID == "":
		return sha3Hex(b.UserName)
	case b.UserName == "":
		return sha3Hex(b.ClientID)
	}
	return sha3Hex(b.ClientID + "|" + b.UserName)
}

func sha3Hex(s string) string {
	sum := sha3.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// lookup is what credentials are found by: a digest, so that the time of the index's comparisons tells nothing of the tokens.
func lookup(kind CredentialsKind, id string) []byte {
	sum := sha256.Sum256([]byte(string(kind) + "\x00" + id))
	return sum[:]
}

// normalize checks credentials and derives the id of MQTT_BASIC from its value.
func normalize(c Credentials) (Credentials, error) {
	switch c.Kind {
	case AccessToken:
		c.Value = ""
		return c, checkToken("credentialsId", c.ID)
	case MQTTBasic:
		b, err := parseBasic(c.Value)
		if err != nil {
			return c, err
		}
		c.ID = b.id()
		return c, nil
	}
	return c, fmt.Errorf("%w: credentialsType %q: use %s or %s", ErrInvalid, c.Kind, AccessToken, MQTTBasic)
}

func parseBasic(value string) (basic, error) {
	var b basic
	if err := json.Unmarshal([]byte(value), &b); err != nil {
		return b, fmt.Errorf(`%w: credentialsValue must be {"clientId":…,"userName":…,"password":…} as text: %w`, ErrInvalid, err)
	}
	if b.ClientID == "" && b.UserName == "" {
		return b, fmt.Errorf("%w: credentialsValue: clientId and userName are both empty: set one", ErrInvalid)
	}
	if b.UserName == "" && b.Password != "" { // MQTT 3.1.1 has no password without a user name [MQTT-3.1.2-22]
		return b, fmt.Errorf("%w: credentialsValue: a password needs a userName", ErrInvalid)
	}
	for field, s := range map[string]string{"clientId": b.ClientID, "userName": b.UserName, "password": b.Password} {
		if s == "" {
			continue
		}
		if err := checkToken("credentialsValue."+field, s); err != nil {
			return b, err
		}
	}
	return b, nil
}

const credentialsColumns = `c.id, c.device, c.kind, c.proof, c.value, c.created, c.version`

func scanCredentials(row row, more ...any) (Credentials, error) {
	var c Credentials
	var kind string
	var created int64
	into := []any{&c.RowID, &c.Device, &kind, &c.ID, &c.Value, &created, &c.Version}
	if err := row.Scan(append(into, more...)...); err != nil {
		return Credentials{}, err
	}
	c.Kind, c.Created = CredentialsKind(kind), fromMicros(created)
	return c, nil
}

func insertCredentials(tx *tx, c Credentials) error {
	_, err := tx.exec(`INSERT INTO device_credentials (device, id, kind, lookup, proof, value, created, version)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		c.Device, c.RowID, string(c.Kind), lookup(c.Kind, c.ID), c.ID, c.Value, c.Created.UnixMicro(), c.Version)
	return namedTaken(err)
}

// namedTaken says what is taken without repeating the secret.
func namedTaken(err error) error {
	if isTaken(err) {
		return fmt.Errorf("%w: another device has these credentials", ErrExists)
	}
	return err
}

// Credentials are those of a device of the tenant; ErrNotFound if there is no such device.
func (r *Registry) Credentials(ctx context.Context, tenant, device uuid.UUID) (Credentials, error) {
	c, err := scanCredentials(r.query(ctx).row(`SELECT `+credentialsColumns+
		` FROM device_credentials c JOIN devices d ON d.id = c.device WHERE c.device = $1 AND d.tenant = $2`, device, tenant))
	if err != nil {
		return Credentials{}, missing(err, "credentials of device", device)
	}
	return c, nil
}

// SaveCredentials replaces the credentials of a device of the tenant; its sessions are then to be closed (CredentialsChanged).
// ACCESS_TOKEN without ID gets a random token. A version other than 0 must be the stored one, else ErrStale; another device's
// credentials are ErrExists.
func (r *Registry) SaveCredentials(ctx context.Context, tenant uuid.UUID, c Credentials) (Credentials, error) {
	if c.Kind == AccessToken && c.ID == "" {
		c.ID = randomText(generatedTokenLen)
	}
	c, err := normalize(c)
	if err != nil {
		return Credentials{}, err
	}
	err = r.write(ctx, func(tx *tx) error {
		old, err := scanCredentials(tx.row(`SELECT `+credentialsColumns+` FROM device_credentials c JOIN devices d ON d.id = c.device
			WHERE c.device = $1 AND d.tenant = $2`+tx.lockingOnly("c"), c.Device, tenant))
		if err != nil {
			return missing(err, "credentials of device", c.Device)
		}
		if c.Version != 0 && c.Version != old.Version {
			return fmt.Errorf("%w: the credentials have version %d, not %d: read them again", ErrStale, old.Version, c.Version)
		}
		c.RowID, c.Created, c.Version = old.RowID, old.Created, old.Version+1
		tx.tell(Change{Kind: CredentialsChanged, Tenant: tenant, Device: c.Device, Version: int(c.Version)})
		_, err = tx.exec(`UPDATE device_credentials SET kind = $2, lookup = $3, proof = $4, value = $5, version = $6 WHERE device = $1`,
			c.Device, string(c.Kind), lookup(c.Kind, c.ID), c.ID, c.Value, c.Version)
		return namedTaken(err)
	})
	if err != nil {
		return Credentials{}, fmt.Errorf("saving the credentials of device %s: %w", c.Device, err)
	}
	return c, nil
}

// CredentialVersions are the versions of the credentials of some devices, a thousand at most. A device that does not exist is not among them.
func (r *Registry) CredentialVersions(ctx context.Context, devices []uuid.UUID) (map[uuid.UUID]int64, error) {
	out := make(map[uuid.UUID]int64, len(devices))
	if len(devices) == 0 {
		return out, nil
	}
	ids := make([]any, len(devices))
	for i, id := range devices {
		ids[i] = id
	}
	err := r.query(ctx).each(`SELECT device, version FROM device_credentials WHERE device IN `+places(len(ids)), ids, func(row row) error {
		var id uuid.UUID
		var version int64
		err := row.Scan(&id, &version)
		out[id] = version
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the versions of credentials: %w", err)
	}
	return out, nil
}
