-- +goose Up
-- The persistent calls of a device that have ended, by their wire ids: a late answer names nothing else. Rows of open calls are written too often for an index.
CREATE INDEX calls_wire ON calls (tenant, device, wire, created) WHERE persistent AND ended IS NOT NULL;

-- +goose Down
DROP INDEX calls_wire;
