-- +goose Up

-- The tables of engine/projection. Text sorts by bytes and NULL sorts lowest, as in SQLite.
CREATE TABLE calls (
    tenant     uuid NOT NULL,
    id         uuid NOT NULL,
    device     uuid,
    partition  bigint,
    persistent boolean,
    direction  bigint,
    oneway     boolean,
    wire       bigint,
    method     text COLLATE "C",
    phase      text COLLATE "C",
    status     text COLLATE "C",
    reason     text COLLATE "C",
    removed    boolean,
    created    bigint,
    expires    bigint,
    ended      bigint,
    content    bytea,
    request    json,
    response   json,
    version    bigint,
    PRIMARY KEY (tenant, id)
) WITH (fillfactor = 80);
CREATE INDEX calls_device ON calls (tenant, device, created NULLS FIRST) WHERE persistent;
CREATE INDEX calls_created ON calls (tenant, created NULLS FIRST);

CREATE TABLE devices_state (
    device          uuid PRIMARY KEY,
    partition       bigint,
    next_wire       bigint,
    stream          text COLLATE "C",
    began           bigint,
    version         bigint,
    hash            bytea,
    last_connect    bigint,
    last_disconnect bigint
) WITH (fillfactor = 70);
CREATE INDEX devices_state_partition ON devices_state (partition);

CREATE TABLE open_streams (
    partition bigint NOT NULL,
    stream    text   NOT NULL COLLATE "C",
    PRIMARY KEY (partition, stream)
);

CREATE TABLE attributes (
    entity uuid NOT NULL,
    scope  text NOT NULL COLLATE "C",
    key    text NOT NULL COLLATE "C",
    value  json,
    ts     bigint,
    PRIMARY KEY (entity, scope, key)
) WITH (fillfactor = 70);

CREATE TABLE latest (
    entity uuid NOT NULL,
    key    text NOT NULL COLLATE "C",
    value  json,
    ts     bigint,
    PRIMARY KEY (entity, key)
) WITH (fillfactor = 70);

CREATE TABLE dead_letters (
    id        uuid PRIMARY KEY,
    tenant    uuid,
    device    uuid,
    partition bigint,
    at        bigint,
    reason    text COLLATE "C",
    detail    text COLLATE "C",
    command   json
);
CREATE INDEX dead_letters_at ON dead_letters (tenant, at NULLS FIRST);
