-- +goose Up
-- Times are microseconds since 1970 in UTC. Names sort by their bytes, so that both databases list in one order.
CREATE TABLE install (
    id         smallint PRIMARY KEY CHECK (id = 1),
    partitions integer  NOT NULL,
    created    bigint   NOT NULL
);

-- Keys of the installation, sealed with the key that is not in the database.
CREATE TABLE sealed_keys (
    purpose text   PRIMARY KEY,
    sealed  bytea  NOT NULL,
    created bigint NOT NULL
);

CREATE TABLE tenants (
    id      uuid   PRIMARY KEY,
    title   text   NOT NULL,
    created bigint NOT NULL
);

CREATE TABLE users (
    id           uuid    PRIMARY KEY,
    tenant       uuid    REFERENCES tenants (id),
    customer     uuid,
    email        text    NOT NULL,
    login        text    COLLATE "C" NOT NULL UNIQUE,
    authority    text    NOT NULL,
    first_name   text    NOT NULL,
    last_name    text    NOT NULL,
    enabled      boolean NOT NULL,
    password     text    NOT NULL,
    tokens_since bigint  NOT NULL,
    additional   text,
    created      bigint  NOT NULL
);

CREATE TABLE ended_sessions (
    session text   PRIMARY KEY,
    expires bigint NOT NULL
);

CREATE TABLE rule_chains (
    id      uuid    PRIMARY KEY,
    tenant  uuid    NOT NULL REFERENCES tenants (id),
    name    text    COLLATE "C" NOT NULL,
    folded  text    COLLATE "C" NOT NULL,
    root    boolean NOT NULL,
    active  integer NOT NULL,
    latest  integer NOT NULL,
    file    text    NOT NULL,
    deleted boolean NOT NULL,
    created bigint  NOT NULL
);
CREATE UNIQUE INDEX rule_chains_root ON rule_chains (tenant) WHERE root;
CREATE UNIQUE INDEX rule_chains_file ON rule_chains (tenant, file) WHERE file <> '' AND NOT deleted;

-- Versions outlive their chain: a parked run goes on with the version that it began with.
CREATE TABLE rule_chain_versions (
    chain      uuid    NOT NULL REFERENCES rule_chains (id),
    version    integer NOT NULL,
    name       text    NOT NULL,
    definition bytea   NOT NULL,
    format     text    NOT NULL,
    author     text    NOT NULL,
    created    bigint  NOT NULL,
    PRIMARY KEY (chain, version)
);

CREATE TABLE device_profiles (
    id          uuid    PRIMARY KEY,
    tenant      uuid    NOT NULL REFERENCES tenants (id),
    name        text    COLLATE "C" NOT NULL,
    folded      text    COLLATE "C" NOT NULL,
    description text    NOT NULL,
    transport   text    NOT NULL,
    chain       uuid    REFERENCES rule_chains (id),
    preset      boolean NOT NULL,
    data        text,
    created     bigint  NOT NULL,
    version     bigint  NOT NULL,
    UNIQUE (tenant, name)
);
CREATE UNIQUE INDEX device_profiles_preset ON device_profiles (tenant) WHERE preset;
CREATE INDEX device_profiles_chain ON device_profiles (chain);

CREATE TABLE devices (
    id         uuid    PRIMARY KEY,
    tenant     uuid    NOT NULL REFERENCES tenants (id),
    customer   uuid,
    name       text    COLLATE "C" NOT NULL,
    folded     text    COLLATE "C" NOT NULL,
    label      text    NOT NULL,
    profile    uuid    NOT NULL REFERENCES device_profiles (id),
    partition  integer NOT NULL,
    additional text,
    data       text,
    created    bigint  NOT NULL,
    version    bigint  NOT NULL,
    UNIQUE (tenant, name)
);
CREATE INDEX devices_created ON devices (tenant, created, id);
CREATE INDEX devices_profile ON devices (profile);

CREATE TABLE device_credentials (
    device  uuid   PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    id      uuid   NOT NULL UNIQUE,
    kind    text   NOT NULL,
    lookup  bytea  NOT NULL UNIQUE,
    proof   text   NOT NULL,
    value   text   NOT NULL,
    created bigint NOT NULL,
    version bigint NOT NULL
);

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
