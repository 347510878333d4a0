package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"callchain/chains"
	"callchain/chains/stored"
	"callchain/chains/thingsboard"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
)

// The formats of definitions.
const (
	formatYAML = "yaml"
	formatJSON = "json"
)

// chainView is a version of a rule chain. Definition is left out of lists.
type chainView struct {
	ID         uuid.UUID       `json:"id"`
	Name       string          `json:"name"`
	Version    int             `json:"version"`
	Active     bool            `json:"active"` // this version runs
	Root       bool            `json:"root"`
	Format     string          `json:"format"`
	Created    instant         `json:"created"`
	Author     string          `json:"author"`
	File       string          `json:"file,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty"`
}

func chainViewOf(ch *registry.Chain) chainView {
	return chainView{
		ID: ch.ID, Name: ch.Name, Version: ch.Version, Active: ch.Active, Root: ch.Root, Format: ch.Format, Created: instant(ch.Created.UnixMicro()),
		Author: ch.Author, File: ch.File,
	}
}

// listChains serves GET /api/chains?pageSize=&page=&textSearch=.
func listChains(s *server, c *gin.Context, who *auth.Principal) error {
	size, err := optionalInt(c, "pageSize", 1, callsPagePreset)
	if err != nil {
		return err
	}
	number, err := optionalInt(c, "page", 0, 0)
	if err != nil {
		return err
	}
	p := registry.Page{Size: min(size, listMax), Number: number, Search: c.Query("textSearch"), Sort: c.Query("sortProperty"), Desc: c.Query("sortOrder") == "DESC"}
	list, total, err := s.dir.Chains(c.Request.Context(), who.Tenant, p)
	if err != nil {
		return err
	}
	return writePage(c, p, total, list, func(ch *registry.Chain) any { return chainViewOf(ch) })
}

// createChain serves POST /api/chains: the body is the definition, its Content-Type tells the form. ?activate=true makes it run at once.
func createChain(s *server, c *gin.Context, who *auth.Principal) error {
	return s.storeChain(c, who, registry.Chain{})
}

// saveChain serves PUT /api/chains/{chainId}: a new version. ?version= is the version that was edited; another one meanwhile is a 409.
func saveChain(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "chainId")
	if err != nil {
		return err
	}
	edited, err := optionalInt(c, "version", 1, 0)
	if err != nil {
		return err
	}
	if _, err := s.dir.Chain(c.Request.Context(), who.Tenant, id); err != nil {
		return err
	}
	return s.storeChain(c, who, registry.Chain{ID: id, Version: edited})
}

func (s *server) storeChain(c *gin.Context, who *auth.Principal, ch registry.Chain) error {
	activate, err := optionalBool(c, "activate")
	if err != nil {
		return err
	}
	ch.Tenant, ch.Author = who.Tenant, who.Actor
	if ch.Format, ch.Definition, ch.Name, err = s.askedChain(c); err != nil {
		return err
	}
	ctx := c.Request.Context()
	saved, err := s.dir.SaveChain(ctx, ch)
	if err != nil {
		return err
	}
	if activate != nil && *activate {
		if saved, err = s.dir.ActivateChain(ctx, who.Tenant, saved.ID, saved.Version); err != nil {
			return err
		}
	}
	return writeValue(c, chainViewOf(&saved))
}

// askedChain reads and checks the definition in the body.
func (s *server) askedChain(c *gin.Context) (format string, definition []byte, name string, err error) {
	if format, err = contentFormat(c.ContentType()); err != nil {
		return "", nil, "", err
	}
	b, err := s.readBody(c, chains.BytesMax)
	if err != nil {
		return "", nil, "", err
	}
	defer b.release()
	if written := writtenAs(b.bytes); format == formatJSON && written != formatJSON {
		return "", nil, "", badBody(errors.New("Content-Type says JSON, but the body does not begin with a brace"))
	} else if written == formatJSON {
		format = formatJSON
	}
	name, err = s.checkChain(b.bytes)
	return format, b.bytes, name, err
}

// writtenAs tells JSON from YAML as chains.Parse does: by the brace that it begins with.
func writtenAs(definition []byte) string {
	if bytes.HasPrefix(bytes.TrimSpace(definition), []byte{'{'}) {
		return formatJSON
	}
	return formatYAML
}

func contentFormat(contentType string) (string, error) {
	switch contentType {
	case "application/json", "":
		return formatJSON, nil
	case "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml":
		return formatYAML, nil
	}
	return "", &apiError{
		status: 415, errorCode: codeBadRequest, message: "Content-Type '" + clip(contentType, 60) + "' is not supported", code: "unsupported_media_type",
		detail: "send the chain as application/yaml or application/json",
	}
}

// checkChain compiles a definition and gives its name. All mistakes are in the error.
func (s *server) checkChain(definition []byte) (string, error) {
	return s.compiled(stored.Text{Body: definition})
}

// compiled is the name of a definition that compiles. All mistakes are in the error.
func (s *server) compiled(t stored.Text) (string, error) {
	p, err := t.Compile(s.nodes, uuid.Max, 1) // the id and version do not matter to the check
	var problems chains.Problems
	if errors.As(err, &problems) {
		return "", faultsError(problems)
	}
	if err != nil {
		return "", err
	}
	return p.Name, nil
}

// fault is one mistake in the definition of a rule chain.
type fault struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Node    string `json:"node"`
	Message string `json:"message"`
}

// faultsError is the 400 for a definition with mistakes: all of them, under "errors".
func faultsError(problems chains.Problems) error {
	faults := make([]fault, len(problems))
	for i, p := range problems {
		faults[i] = fault{p.File, p.Line, p.Column, p.Node, p.Text}
	}
	list, err := marshal(faults)
	if err != nil {
		return err
	}
	return &apiError{
		status: 400, errorCode: codeBadRequest, message: "The rule chain has mistakes", code: "invalid_chain",
		detail: fmt.Sprintf("%d found, the first: %s", len(problems), problems[0].Error()), more: append([]byte(`,"errors":`), list...),
	}
}

// withChain reads the id in the path and names it when it is not found.
func withChain(c *gin.Context, do func(uuid.UUID) error) error {
	id, err := pathUUID(c, "chainId")
	if err != nil {
		return err
	}
	if err := do(id); errors.Is(err, registry.ErrNotFound) {
		return notFound("Rule chain", id).because(err.Error())
	} else if err != nil {
		return err
	}
	return nil
}

// getChain serves GET /api/chains/{chainId}[?version=n]: with Accept application/yaml the definition as YAML, else JSON with the
// definition in it.
func getChain(s *server, c *gin.Context, who *auth.Principal) error {
	return withChain(c, func(id uuid.UUID) error {
		version, err := optionalInt(c, "version", 1, 0)
		if err != nil {
			return err
		}
		var ch registry.Chain
		if version > 0 {
			ch, err = s.dir.ChainVersion(c.Request.Context(), who.Tenant, id, version)
		} else {
			ch, err = s.dir.Chain(c.Request.Context(), who.Tenant, id)
		}
		if err != nil {
			return err
		}
		return s.writeChain(c, &ch)
	})
}

// printed is a chain in a form of our own: as it was written, or, if ThingsBoard's form is what is kept, printed as YAML.
func (s *server) printed(ch *registry.Chain) error {
	if ch.Format != thingsboard.Format {
		return nil
	}
	d, err := s.stored(ch).Definition(s.nodes)
	if err != nil {
		return fmt.Errorf("writing chain %s: %w", ch.ID, err)
	}
	ch.Definition, ch.Format = chains.Print(d), formatYAML
	return nil
}

func (s *server) stored(ch *registry.Chain) stored.Text {
	return stored.Text{Format: ch.Format, Body: ch.Definition}
}

func (s *server) writeChain(c *gin.Context, ch *registry.Chain) error {
	v := chainViewOf(ch)
	if err := s.printed(ch); err != nil {
		return err
	}
	c.Writer.Header().Set("Vary", "Accept")
	if wantsYAML(c.GetHeader("Accept")) {
		text := ch.Definition
		if ch.Format == formatJSON {
			var err error
			if text, err = yaml.JSONToYAML(text); err != nil {
				return fmt.Errorf("writing chain %s as YAML: %w", ch.ID, err)
			}
		}
		c.Writer.Header().Set("Callchain-Chain-Version", strconv.Itoa(ch.Version))
		c.Data(http.StatusOK, "application/yaml", text)
		return nil
	}
	v.Definition = ch.Definition
	if ch.Format == formatYAML {
		text, err := yamlToJSON(ch.Definition)
		if err != nil {
			return fmt.Errorf("writing chain %s as JSON: %w", ch.ID, err)
		}
		v.Definition = text
	}
	return writeValue(c, v)
}

// wantsYAML takes the first type that is named, without weights: clients name one.
func wantsYAML(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		kind, _, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		if format, err := contentFormat(kind); err == nil {
			return format == formatYAML
		}
	}
	return false
}

// deleteChain serves DELETE /api/chains/{chainId}.
func deleteChain(s *server, c *gin.Context, who *auth.Principal) error {
	return withChain(c, func(id uuid.UUID) error {
		if err := s.dir.DeleteChain(c.Request.Context(), who.Tenant, id); err != nil {
			return err
		}
		writeEmpty(c, http.StatusOK)
		return nil
	})
}

// listChainVersions serves GET /api/chains/{chainId}/versions, the newest first.
func listChainVersions(s *server, c *gin.Context, who *auth.Principal) error {
	return withChain(c, func(id uuid.UUID) error {
		list, err := s.dir.ChainVersions(c.Request.Context(), who.Tenant, id)
		if err != nil {
			return err
		}
		views := make([]chainView, len(list))
		for i := range list {
			views[i] = chainViewOf(&list[i])
		}
		return writeValue(c, views)
	})
}

// activateChain serves POST /api/chains/{chainId}/activate[?version=n]: the version, or the latest, runs from now on. A version that this
// server cannot compile (made by a newer one) is refused.
func activateChain(s *server, c *gin.Context, who *auth.Principal) error {
	return withChain(c, func(id uuid.UUID) error {
		list, err := s.dir.ChainVersions(c.Request.Context(), who.Tenant, id)
		if err != nil {
			return err
		}
		version, err := optionalInt(c, "version", 1, list[0].Version)
		if err != nil {
			return err
		}
		return s.activate(c, who, id, version)
	})
}

// rollbackChain serves POST /api/chains/{chainId}/rollback[?version=n]: the version before the active one, or an earlier one.
func rollbackChain(s *server, c *gin.Context, who *auth.Principal) error {
	return withChain(c, func(id uuid.UUID) error {
		active, err := s.dir.Chain(c.Request.Context(), who.Tenant, id)
		if err != nil {
			return err
		}
		version, err := optionalInt(c, "version", 1, active.Version-1)
		if err != nil {
			return err
		}
		if !active.Active || version < 1 || version >= active.Version {
			return badQuery("version", "there is no version before the active one to go back to")
		}
		return s.activate(c, who, id, version)
	})
}

func (s *server) activate(c *gin.Context, who *auth.Principal, id uuid.UUID, version int) error {
	ctx := c.Request.Context()
	ch, err := s.dir.ChainVersion(ctx, who.Tenant, id, version)
	if err != nil {
		return err
	}
	if _, err := s.compiled(s.stored(&ch)); err != nil {
		return err
	}
	if ch, err = s.dir.ActivateChain(ctx, who.Tenant, id, version); err != nil {
		return err
	}
	return writeValue(c, chainViewOf(&ch))
}

// makeRoot serves POST /api/chains/{chainId}/root: messages of devices whose profile names no chain enter it.
func makeRoot(s *server, c *gin.Context, who *auth.Principal) error {
	return withChain(c, func(id uuid.UUID) error {
		if err := s.dir.SetRoot(c.Request.Context(), who.Tenant, id); err != nil {
			return err
		}
		ch, err := s.dir.Chain(c.Request.Context(), who.Tenant, id)
		if err != nil {
			return err
		}
		return writeValue(c, chainViewOf(&ch))
	})
}

// chainSchema serves GET /api/chains/schema: the JSON Schema of definitions, for editors.
func chainSchema(s *server, c *gin.Context, _ *auth.Principal) error {
	return writeValue(c, chains.Schema(s.nodes))
}
