-- +goose Up
-- Changes of the registry that other nodes are still to be told of: written with what they tell of, deleted when they are told.
CREATE TABLE registry_outbox (
    id      BLOB    PRIMARY KEY,
    process BLOB    NOT NULL,
    at      INTEGER NOT NULL,
    change  TEXT    NOT NULL
) STRICT;
CREATE INDEX registry_outbox_at ON registry_outbox (at);

-- +goose Down
DROP TABLE registry_outbox;
