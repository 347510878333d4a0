-- +goose Up

-- What rule nodes did with messages, for those who look for a mistake. A node has a bounded number of rows; the oldest is replaced.
CREATE TABLE traces (
    node      BLOB    NOT NULL,
    partition INTEGER NOT NULL,
    slot      INTEGER NOT NULL,
    tenant    BLOB,
    id        BLOB,
    at        INTEGER,
    message   BLOB,
    call      BLOB,
    direction TEXT,
    failed    INTEGER,
    body      TEXT,
    PRIMARY KEY (node, partition, slot)
) STRICT;
CREATE INDEX traces_node ON traces (tenant, node, at);
CREATE INDEX traces_message ON traces (tenant, message);
CREATE INDEX traces_call ON traces (tenant, call) WHERE call IS NOT NULL;
CREATE INDEX traces_at ON traces (tenant, at);
