-- +goose Up

-- pos is the order of commits: new events go to the end of the table, whatever partition they are of.
-- stream is a packed key (eventstore/streamkey). NULL stands for: occurred = at, no device, no trace, empty text.
CREATE TABLE events (
    pos           INTEGER PRIMARY KEY,
    stream        BLOB    NOT NULL,
    began         INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    partition     INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    type          TEXT    NOT NULL,
    type_version  INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    occurred      INTEGER,
    tenant        BLOB,
    device        BLOB,
    actor         TEXT,
    cause         TEXT,
    hops          INTEGER NOT NULL,
    trace         BLOB,
    chain_version TEXT,
    key_id        TEXT,
    data          TEXT    NOT NULL,
    hash          BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_stream ON events (stream, version);

-- One row a partition and append: the events from seq "first" on stand at pos and the count-1 places after it.
CREATE TABLE commits (
    partition INTEGER NOT NULL,
    first     INTEGER NOT NULL,
    pos       INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    append_id BLOB    NOT NULL,
    PRIMARY KEY (partition, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    partition INTEGER PRIMARY KEY,
    epoch     INTEGER NOT NULL,
    node      TEXT    NOT NULL,
    seq       INTEGER NOT NULL,
    head      BLOB    NOT NULL,
    topic0    BLOB    NOT NULL,
    offset0   INTEGER NOT NULL,
    topic1    BLOB    NOT NULL,
    offset1   INTEGER NOT NULL,
    indexed   INTEGER NOT NULL,
    relayed   INTEGER NOT NULL,
    append_id BLOB    NOT NULL
) STRICT;
