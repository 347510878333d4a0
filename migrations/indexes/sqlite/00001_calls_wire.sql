-- +goose Up
-- The persistent calls of a device by their wire ids: a late answer names nothing else.
CREATE INDEX calls_wire ON calls (tenant, device, wire, created) WHERE persistent;

-- +goose Down
DROP INDEX calls_wire;
