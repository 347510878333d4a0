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

-- One row an append, at the end like its events: parts lists (partition, first seq, count) as varints, in the order of the
-- events, which stand at pos and after it without gaps. A row a partition would touch a page of its own for each of them.
CREATE TABLE appends (
    pos   INTEGER PRIMARY KEY,
    id    BLOB NOT NULL,
    parts BLOB NOT NULL
) STRICT;

-- Every 64th append: the last seq of each partition before the append at pos, as (partition, seq) varints. A reader of one
-- partition begins at the last anchor before its place.
CREATE TABLE anchors (
    n    INTEGER PRIMARY KEY,
    pos  INTEGER NOT NULL,
    seqs BLOB    NOT NULL
) STRICT;

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
