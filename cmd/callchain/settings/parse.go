package settings

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parse turns a text into the value of a setting. The error says what is allowed, without the key and the value.
func (s setting) parse(text string) (any, error) {
	text = strings.TrimSpace(text)
	if text == "" && !s.optional {
		return nil, errors.New("must not be empty")
	}
	switch s.typ {
	case reflect.TypeFor[time.Duration]():
		return inBounds(s, text, parseDuration)
	case reflect.TypeFor[Bytes]():
		return inBounds(s, text, parseBytes)
	case reflect.TypeFor[Secret]():
		return Secret(text), nil
	case reflect.TypeFor[DatabaseURL]():
		return s.parseURL(text)
	}
	switch s.typ.Kind() {
	case reflect.Bool:
		return parseBool(text)
	case reflect.Int:
		return inBounds(s, text, parseInt)
	case reflect.Float64:
		return inBounds(s, text, parseShare)
	case reflect.String:
		return s.parseText(text)
	default:
		panic("settings: no values of type " + s.typ.String())
	}
}

func inBounds[T int | float64 | Bytes | time.Duration](s setting, text string, parse func(string) (T, error)) (any, error) {
	v, err := parse(text)
	if err != nil {
		return nil, err
	}
	least, err1 := parse(s.min)
	most, err2 := parse(s.max)
	if err := errors.Join(err1, err2); err != nil {
		panic("settings: bounds of " + s.key + ": " + err.Error())
	}
	if v < least || v > most {
		return nil, fmt.Errorf("must be between %s and %s", s.min, s.max)
	}
	return v, nil
}

func parseInt(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, errors.New("must be a whole number")
	}
	return n, nil
}

func parseShare(text string) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) {
		return 0, errors.New("must be a number such as 0.25")
	}
	return f, nil
}

func parseBool(text string) (any, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, errors.New("must be true or false")
}

// parseDuration takes Go's form and, since retention is counted so, a number of days: 7d.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 32); err == nil && n <= 100_000 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("must be a duration with a unit such as 500ms, 10s, 5m, 12h or 7d")
	}
	return d, nil
}

var byteUnits = []struct {
	suffix string
	factor int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}}

func parseBytes(text string) (Bytes, error) {
	factor := int64(1)
	for _, u := range byteUnits {
		if number, ok := strings.CutSuffix(text, u.suffix); ok {
			text, factor = strings.TrimSpace(number), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, errors.New("must be a number of bytes such as 65536, 64KiB, 16MiB or 2GiB")
	}
	return Bytes(n * factor), nil
}

func (s setting) parseURL(text string) (any, error) {
	if text == "" {
		return DatabaseURL(""), nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("must be empty or look like postgres://user:password@host:5432/name")
	}
	return DatabaseURL(text), nil
}

func (s setting) parseText(text string) (any, error) {
	switch {
	case s.kind == "addr" && text != "":
		return text, checkAddress(text)
	case s.kind == "url" && text != "":
		return text, checkURL(text)
	}
	if len(s.enum) > 0 {
		word := strings.ToLower(text)
		if own, ok := thingsBoardWords[word]; ok {
			word = own
		}
		if !slices.Contains(s.enum, word) {
			return nil, fmt.Errorf("must be one of %s", strings.Join(s.enum, ", "))
		}
		return word, nil
	}
	return text, nil
}

// thingsBoardWords are ThingsBoard's names of submit strategies (RpcSubmitStrategy); it compares them in any case.
var thingsBoardWords = map[string]string{
	"sequential_on_ack_from_device":      "on_ack",
	"sequential_on_response_from_device": "on_response",
}

func checkAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return errors.New("must look like host:port with a port between 0 and 65535, for example 127.0.0.1:8080")
	}
	return nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("must be empty or look like http://host:4318")
	}
	return nil
}

// fromThingsBoard puts a value under ThingsBoard's name into our form: plain numbers are milliseconds or seconds, a port replaces
// that of the address.
func (s setting) fromThingsBoard(text, address string) string {
	text = strings.TrimSpace(text)
	_, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return text
	case s.tbUnit == "port":
		host, _, splitErr := net.SplitHostPort(address)
		if splitErr != nil {
			host = "127.0.0.1"
		}
		return net.JoinHostPort(host, text)
	}
	return text + s.tbUnit
}
