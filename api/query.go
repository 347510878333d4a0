package api

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"callchain/registry"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// askedPage reads ThingsBoard's paging parameters. pageSize and page are required; anything wrong is a 400.
func askedPage(c *gin.Context) (registry.Page, error) {
	size, err := askedInt(c, "pageSize", 1)
	if err != nil {
		return registry.Page{}, err
	}
	number, err := askedInt(c, "page", 0)
	if err != nil {
		return registry.Page{}, err
	}
	p := registry.Page{Size: size, Number: number, Search: c.Query("textSearch"), Sort: c.Query("sortProperty")}
	if p.Sort == "" {
		return p, nil
	}
	switch order := c.Query("sortOrder"); order {
	case "", "ASC":
	case "DESC":
		p.Desc = true
	default:
		return p, badQuery("sortOrder", "Unsupported sort order '%s'! Only 'ASC' or 'DESC' types are allowed.", clip(order, 20))
	}
	return p, nil
}

// checkQuery refuses texts that a database cannot look for: with a NUL, or not UTF-8.
func checkQuery(c *gin.Context) error {
	if c.Request.URL.RawQuery == "" {
		return nil
	}
	for name, values := range c.Request.URL.Query() {
		for _, v := range values {
			if strings.ContainsRune(v, 0) || !utf8.ValidString(v) {
				return badQuery(strings.ToValidUTF8(clip(name, 40), "?"), "must be UTF-8 without a NUL character")
			}
		}
	}
	return nil
}

// hasNUL tells whether a text in JSON has the escape \u0000. Backslashes stand in texts only, each before what it escapes.
func hasNUL(body []byte) bool {
	for {
		i := bytes.IndexByte(body, '\\')
		if i < 0 || i+1 >= len(body) {
			return false
		}
		if bytes.HasPrefix(body[i+1:], []byte("u0000")) {
			return true
		}
		body = body[i+2:]
	}
}

// askedInt reads a required number that fits 32 bits, as Java's int.
func askedInt(c *gin.Context, name string, least int) (int, error) {
	text, given := c.GetQuery(name)
	if !given {
		return 0, badQuery(name, "it is missing")
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || int(n) < least {
		return 0, badQuery(name, "must be a whole number from %d to 2147483647, is '%s'", least, clip(text, 40))
	}
	return int(n), nil
}

// optionalInt reads a number that may be left out.
func optionalInt(c *gin.Context, name string, least, preset int) (int, error) {
	if _, given := c.GetQuery(name); !given {
		return preset, nil
	}
	return askedInt(c, name, least)
}

// optionalUUID reads an id that may be left out (uuid.Nil then).
func optionalUUID(c *gin.Context, name string) (uuid.UUID, error) {
	text := c.Query(name)
	if text == "" {
		return uuid.Nil, nil
	}
	return parseUUID(text)
}

// optionalTime reads a time in RFC 3339, or in milliseconds since 1970 as ThingsBoard's clients have it; the zero time if left out.
func optionalTime(c *gin.Context, name string) (time.Time, error) {
	text := c.Query(name)
	if text == "" {
		return time.Time{}, nil
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms >= 0 && ms <= lastMillis {
		return time.UnixMilli(ms), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, badQuery(name, "must be a time like 2026-11-23T12:00:00Z, or milliseconds since 1970, is '%s'", clip(text, 40))
	}
	return at, nil
}

// optionalBool reads a flag that may be left out (nil then).
func optionalBool(c *gin.Context, name string) (*bool, error) {
	text, given := c.GetQuery(name)
	if !given {
		return nil, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return nil, badQuery(name, "must be true or false, is '%s'", clip(text, 20))
	}
	return &b, nil
}

// pathUUID reads an id in the path.
func pathUUID(c *gin.Context, name string) (uuid.UUID, error) { return parseUUID(c.Param(name)) }

// appendPage ends ThingsBoard's PageData, whose data were appended before: {"data":[…],"totalPages":…,"totalElements":…,"hasNext":…}.
func appendPage(dst []byte, total int64, p registry.Page) []byte {
	size := int64(p.Size)
	pages := (total + size - 1) / size
	dst = strconv.AppendInt(append(dst, `],"totalPages":`...), pages, 10)
	dst = strconv.AppendInt(append(dst, `,"totalElements":`...), total, 10)
	dst = strconv.AppendBool(append(dst, `,"hasNext":`...), int64(p.Number)+1 < pages)
	return append(dst, '}')
}

// writePage sends a page of values that marshal themselves.
func writePage[T any](c *gin.Context, p registry.Page, total int, list []T, view func(*T) any) error {
	out := append(make([]byte, 0, 1<<10), `{"data":[`...)
	for i := range list {
		if i > 0 {
			out = append(out, ',')
		}
		one, err := marshal(view(&list[i]))
		if err != nil {
			return err
		}
		out = append(out, one...)
	}
	writeJSON(c, http.StatusOK, appendPage(out, int64(total), p))
	return nil
}
