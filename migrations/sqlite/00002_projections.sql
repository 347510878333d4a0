-- +goose Up

-- The tables of engine/projection. UUIDs are 16 bytes, booleans 0 and 1, JSON is text.
CREATE TABLE calls (
    tenant     BLOB NOT NULL,
    id         BLOB NOT NULL,
    device     BLOB,
    partition  INTEGER,
    persistent INTEGER,
    direction  INTEGER,
    oneway     INTEGER,
    wire       INTEGER,
    method     TEXT,
    phase      TEXT,
    status     TEXT,
    reason     TEXT,
    removed    INTEGER,
    created    INTEGER,
    expires    INTEGER,
    ended      INTEGER,
    content    BLOB,
    request    TEXT,
    response   TEXT,
    version    INTEGER,
    PRIMARY KEY (tenant, id)
) STRICT;
CREATE INDEX calls_device ON calls (tenant, device, created) WHERE persistent;
CREATE INDEX calls_created ON calls (tenant, created);

CREATE TABLE devices_state (
    device          BLOB NOT NULL PRIMARY KEY,
    partition       INTEGER,
    next_wire       INTEGER,
    stream          TEXT,
    began           INTEGER,
    version         INTEGER,
    hash            BLOB,
    last_connect    INTEGER,
    last_disconnect INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_state_partition ON devices_state (partition);

CREATE TABLE open_streams (
    partition INTEGER NOT NULL,
    stream    TEXT    NOT NULL,
    PRIMARY KEY (partition, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE attributes (
    entity BLOB NOT NULL,
    scope  TEXT NOT NULL,
    key    TEXT NOT NULL,
    value  TEXT,
    ts     INTEGER,
    PRIMARY KEY (entity, scope, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE latest (
    entity BLOB NOT NULL,
    key    TEXT NOT NULL,
    value  TEXT,
    ts     INTEGER,
    PRIMARY KEY (entity, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    id        BLOB NOT NULL PRIMARY KEY,
    tenant    BLOB,
    device    BLOB,
    partition INTEGER,
    at        INTEGER,
    reason    TEXT,
    detail    TEXT,
    command   TEXT
) STRICT;
CREATE INDEX dead_letters_at ON dead_letters (tenant, at);
