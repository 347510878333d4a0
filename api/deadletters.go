package api

import (
	"encoding/json"
	"net/http"

	"callchain/engine/projection"
	"callchain/eventstore"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// deadLetterView is what could not be processed, and why.
type deadLetterView struct {
	ID        uuid.UUID       `json:"id"`
	Device    uuid.UUID       `json:"deviceId,omitzero"`
	Partition int64           `json:"partition"`
	At        instant         `json:"at"`
	Reason    string          `json:"reason"`
	Detail    string          `json:"detail"`
	Command   json.RawMessage `json:"command"`
}

// listDeadLetters serves GET /api/dead-letters, the newest first.
func listDeadLetters(s *server, c *gin.Context, who *auth.Principal) error {
	size, err := optionalInt(c, "pageSize", 1, callsPagePreset)
	if err != nil {
		return err
	}
	number, err := optionalInt(c, "page", 0, 0)
	if err != nil {
		return err
	}
	size = min(size, callsPageMax)
	q := eventstore.Query{
		Table: projection.DeadLetters, Limit: size, Offset: size * number,
		Where: []eventstore.Cond{{Column: "tenant", Op: eventstore.Eq, Value: who.Tenant}},
		Order: []eventstore.Order{{Column: "at", Desc: true}, {Column: "id"}},
	}
	total, err := s.store.Count(c.Request.Context(), q)
	if err != nil {
		return err
	}
	rows, err := s.store.Rows(c.Request.Context(), q)
	if err != nil {
		return err
	}
	return writePage(c, registry.Page{Size: size, Number: number}, int(total), rows, func(r *[]any) any { return deadLetterOf(*r) })
}

func deadLetterOf(r []any) deadLetterView {
	var v deadLetterView
	v.ID, _ = r[0].(uuid.UUID)
	v.Device, _ = r[2].(uuid.UUID)
	v.Partition, _ = r[3].(int64)
	at, _ := r[4].(int64)
	v.At = instant(at)
	v.Reason, _ = r[5].(string)
	v.Detail, _ = r[6].(string)
	command, _ := r[7].([]byte)
	v.Command = orNull(command)
	return v
}

// rerunView is a dead letter's command that was accepted.
type rerunView struct {
	ID      uuid.UUID `json:"id"`             // of the letter, which is gone
	Outcome string    `json:"outcome"`        // accepted
	Kind    string    `json:"kind"`           // of the command
	Device  uuid.UUID `json:"deviceId"`       // that it is for
	Call    uuid.UUID `json:"rpcId,omitzero"` // that it asked for
}

// rerunDeadLetter serves POST /api/dead-letters/{id}/rerun.
func rerunDeadLetter(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "id")
	if err != nil {
		return err
	}
	r, err := s.engine.RerunDeadLetter(c.Request.Context(), who.Tenant, id, who.Actor)
	if err != nil {
		return err
	}
	return writeValue(c, rerunView{ID: r.DeadLetter, Outcome: "accepted", Kind: r.Kind, Device: r.Device, Call: r.Call})
}

// dropDeadLetter serves DELETE /api/dead-letters/{id}.
func dropDeadLetter(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "id")
	if err != nil {
		return err
	}
	if err := s.engine.DropDeadLetter(c.Request.Context(), who.Tenant, id, who.Actor); err != nil {
		return err
	}
	writeEmpty(c, http.StatusOK)
	return nil
}
