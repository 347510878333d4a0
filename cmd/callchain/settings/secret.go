package settings

import (
	"log/slog"
	"net/url"
)

// masked stands for a secret that is set.
const masked = "********"

// Secret is a text that never shows: neither printed, nor logged, nor marshalled. Reveal gives it.
type Secret string

// Reveal is the text itself; only what needs the secret to work calls it.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// GoString masks it under %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue masks it in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText masks it in JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// DatabaseURL is a URL whose password never shows.
type DatabaseURL string

// Reveal is the URL with the password.
func (u DatabaseURL) Reveal() string { return string(u) }

func (u DatabaseURL) String() string {
	if u == "" {
		return ""
	}
	parsed, err := url.Parse(string(u))
	if err != nil {
		return masked
	}
	q := parsed.Query()
	if q.Has("password") { // libpq's other place for it
		q.Set("password", "xxxxx")
		parsed.RawQuery = q.Encode()
	}
	return parsed.Redacted()
}

// GoString masks it under %#v.
func (u DatabaseURL) GoString() string { return u.String() }

// LogValue masks it in logs.
func (u DatabaseURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText masks it in JSON and YAML.
func (u DatabaseURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Bytes is a number of bytes.
type Bytes int64
