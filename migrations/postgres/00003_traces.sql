-- +goose Up

-- What rule nodes did with messages, for those who look for a mistake. A node has a bounded number of rows; the oldest is replaced.
CREATE TABLE traces (
    node      uuid   NOT NULL,
    partition bigint NOT NULL,
    slot      bigint NOT NULL,
    tenant    uuid,
    id        uuid,
    at        bigint,
    message   uuid,
    call      uuid,
    direction text COLLATE "C",
    failed    boolean,
    body      json,
    PRIMARY KEY (node, partition, slot)
);
CREATE INDEX traces_node ON traces (tenant, node, at NULLS FIRST);
CREATE INDEX traces_message ON traces (tenant, message);
CREATE INDEX traces_call ON traces (tenant, call) WHERE call IS NOT NULL;
CREATE INDEX traces_at ON traces (tenant, at NULLS FIRST);
