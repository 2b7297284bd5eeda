-- Definitions that servers sent, and what was decided about them. Times are Unix milliseconds.
-- The statements stay within what PostgreSQL understands too.
CREATE TABLE definitions (
    server     TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    digest     TEXT   NOT NULL, -- SHA-256 of canonical, hex
    canonical  TEXT   NOT NULL, -- RFC 8785
    first_seen BIGINT NOT NULL,
    last_seen  BIGINT NOT NULL,
    PRIMARY KEY (server, kind, name, digest)
);

CREATE TABLE approvals (
    server      TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    digest      TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('approved', 'revoked')),
    effect      TEXT   NOT NULL CHECK (effect IN ('unknown', 'read', 'write', 'destructive')),
    labels      TEXT   NOT NULL, -- JSON array of strings
    approved_by TEXT   NOT NULL,
    approved_at BIGINT NOT NULL,
    note        TEXT   NOT NULL,
    PRIMARY KEY (server, kind, name, digest),
    FOREIGN KEY (server, kind, name, digest) REFERENCES definitions (server, kind, name, digest)
);

-- One row. A change of any approval adds one, in the same transaction.
CREATE TABLE generation (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    value BIGINT  NOT NULL
);

INSERT INTO generation (id, value) VALUES (1, 1);
