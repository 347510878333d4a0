-- +goose Up
-- Times are microseconds since 1970 in UTC. Names sort by their bytes, so that both databases list in one order. Ids are their
-- 16 bytes, booleans 0 or 1.
CREATE TABLE install (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    partitions   INTEGER NOT NULL,
    created      INTEGER NOT NULL
) STRICT;

-- Keys of the installation, sealed with the key that is not in the database.
CREATE TABLE sealed_keys (
    purpose      TEXT    PRIMARY KEY,
    sealed       BLOB    NOT NULL,
    created      INTEGER NOT NULL
) STRICT;

CREATE TABLE tenants (
    id           BLOB    PRIMARY KEY,
    title        TEXT    NOT NULL,
    created      INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    id           BLOB    PRIMARY KEY,
    tenant       BLOB    REFERENCES tenants (id),
    customer     BLOB,
    email        TEXT    NOT NULL,
    login        TEXT    NOT NULL UNIQUE,
    authority    TEXT    NOT NULL,
    first_name   TEXT    NOT NULL,
    last_name    TEXT    NOT NULL,
    enabled      INTEGER NOT NULL,
    password     TEXT    NOT NULL,
    tokens_since INTEGER NOT NULL,
    additional   TEXT,
    created      INTEGER NOT NULL
) STRICT;

CREATE TABLE ended_sessions (
    session      TEXT    PRIMARY KEY,
    expires      INTEGER NOT NULL
) STRICT;

CREATE TABLE rule_chains (
    id           BLOB    PRIMARY KEY,
    tenant       BLOB    NOT NULL REFERENCES tenants (id),
    name         TEXT    NOT NULL,
    folded       TEXT    NOT NULL,
    root         INTEGER NOT NULL,
    active       INTEGER NOT NULL,
    latest       INTEGER NOT NULL,
    file         TEXT    NOT NULL,
    deleted      INTEGER NOT NULL,
    created      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX rule_chains_root ON rule_chains (tenant) WHERE root;
CREATE UNIQUE INDEX rule_chains_file ON rule_chains (tenant, file) WHERE file <> '' AND NOT deleted;

-- Versions outlive their chain: a parked run goes on with the version that it began with.
CREATE TABLE rule_chain_versions (
    chain        BLOB    NOT NULL REFERENCES rule_chains (id),
    version      INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    definition   BLOB    NOT NULL,
    format       TEXT    NOT NULL,
    author       TEXT    NOT NULL,
    created      INTEGER NOT NULL,
    PRIMARY KEY (chain, version)
) STRICT;

CREATE TABLE device_profiles (
    id           BLOB    PRIMARY KEY,
    tenant       BLOB    NOT NULL REFERENCES tenants (id),
    name         TEXT    NOT NULL,
    folded       TEXT    NOT NULL,
    description  TEXT    NOT NULL,
    transport    TEXT    NOT NULL,
    chain        BLOB    REFERENCES rule_chains (id),
    preset       INTEGER NOT NULL,
    data         TEXT,
    created      INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    UNIQUE (tenant, name)
) STRICT;
CREATE UNIQUE INDEX device_profiles_preset ON device_profiles (tenant) WHERE preset;
CREATE INDEX device_profiles_chain ON device_profiles (chain);

CREATE TABLE devices (
    id           BLOB    PRIMARY KEY,
    tenant       BLOB    NOT NULL REFERENCES tenants (id),
    customer     BLOB,
    name         TEXT    NOT NULL,
    folded       TEXT    NOT NULL,
    label        TEXT    NOT NULL,
    profile      BLOB    NOT NULL REFERENCES device_profiles (id),
    partition    INTEGER NOT NULL,
    additional   TEXT,
    data         TEXT,
    created      INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    UNIQUE (tenant, name)
) STRICT;
CREATE INDEX devices_created ON devices (tenant, created, id);
CREATE INDEX devices_profile ON devices (profile);

CREATE TABLE device_credentials (
    device       BLOB    PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    id           BLOB    NOT NULL UNIQUE,
    kind         TEXT    NOT NULL,
    lookup       BLOB    NOT NULL UNIQUE,
    proof        TEXT    NOT NULL,
    value        TEXT    NOT NULL,
    created      INTEGER NOT NULL,
    version      INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE device_credentials;
DROP TABLE devices;
DROP TABLE device_profiles;
DROP TABLE rule_chain_versions;
DROP TABLE rule_chains;
DROP TABLE ended_sessions;
DROP TABLE users;
DROP TABLE tenants;
DROP TABLE sealed_keys;
DROP TABLE install;
