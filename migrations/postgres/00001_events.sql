-- +goose Up

-- stream is a packed key (eventstore/streamkey). The table is divided by the month in which the stream began, so that a month can be
-- detached whole; the store makes the months. NULL stands for: no device, no trace.
CREATE TABLE events (
    stream        bytea    NOT NULL,
    began         bigint   NOT NULL,
    version       bigint   NOT NULL,
    partition     integer  NOT NULL,
    seq           bigint   NOT NULL,
    type          text     NOT NULL COLLATE "C",
    type_version  smallint NOT NULL,
    at            bigint   NOT NULL,
    occurred      bigint   NOT NULL,
    tenant        uuid     NOT NULL,
    device        uuid,
    actor         text     NOT NULL COLLATE "C",
    cause         text     NOT NULL COLLATE "C",
    hops          smallint NOT NULL,
    trace         bytea,
    chain_version text     NOT NULL COLLATE "C",
    append_id     uuid     NOT NULL,
    key_id        text     NOT NULL COLLATE "C",
    data          json     NOT NULL,
    hash          bytea    NOT NULL,
    UNIQUE (stream, version, began)
) PARTITION BY RANGE (began);
CREATE INDEX events_seq ON events (partition, seq);

-- One row a stream: a month's own index cannot see that a stream of the same name began in another month.
CREATE TABLE streams (
    stream bytea  PRIMARY KEY,
    began  bigint NOT NULL
);

CREATE TABLE checkpoints (
    partition integer PRIMARY KEY,
    epoch     bigint  NOT NULL,
    node      text    NOT NULL,
    seq       bigint  NOT NULL,
    head      bytea   NOT NULL,
    topic0    uuid    NOT NULL,
    offset0   bigint  NOT NULL,
    topic1    uuid    NOT NULL,
    offset1   bigint  NOT NULL,
    indexed   bigint  NOT NULL,
    relayed   bigint  NOT NULL,
    append_id uuid    NOT NULL
) WITH (fillfactor = 30);
