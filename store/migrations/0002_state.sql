-- Documents of package state, and ids that may be used once. Times are Unix nanoseconds, 0 for none.

-- Documents that were deleted stay as tombstones for a while: deleted is 1 and the body is empty.
CREATE TABLE docs (
    kind      TEXT   NOT NULL,
    id        TEXT   NOT NULL,
    owner     TEXT   NOT NULL,
    topic     TEXT   NOT NULL,
    not_after BIGINT NOT NULL, -- from then on the document does not exist
    gone_at   BIGINT NOT NULL, -- from then on the row may be removed
    deleted   BIGINT NOT NULL,
    body      BLOB   NOT NULL,
    seq       BIGINT NOT NULL UNIQUE, -- of the latest write, which is the version too
    PRIMARY KEY (kind, id)
);

CREATE INDEX docs_owner ON docs (kind, owner);
CREATE INDEX docs_topic ON docs (kind, topic);
CREATE INDEX docs_gone ON docs (gone_at);

-- One row: the sequence number of the latest write of a document.
CREATE TABLE sequence (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    value BIGINT  NOT NULL
);

INSERT INTO sequence (id, value) VALUES (1, 0);

-- Ids that were used, by their digest.
CREATE TABLE replays (
    digest BLOB   NOT NULL PRIMARY KEY,
    until  BIGINT NOT NULL
);

CREATE INDEX replays_until ON replays (until);

-- One row: the longest time that an id had left when it was kept in memory only, and whether everything
-- in that memory was written to replays since (1) or not (0).
CREATE TABLE replay_memory (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    widest BIGINT  NOT NULL,
    saved  BIGINT  NOT NULL
);

INSERT INTO replay_memory (id, widest, saved) VALUES (1, 0, 1);
