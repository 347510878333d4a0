-- +goose Up
-- Changes of the registry that other nodes are still to be told of: written with what they tell of, deleted when they are told.
CREATE TABLE registry_outbox (
    id      uuid   PRIMARY KEY,
    process uuid   NOT NULL,
    at      bigint NOT NULL,
    change  text   NOT NULL
);
CREATE INDEX registry_outbox_at ON registry_outbox (at);

-- +goose Down
DROP TABLE registry_outbox;
