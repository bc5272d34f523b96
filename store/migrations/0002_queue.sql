-- What the queue must not forget: rules, what sort of build each one is, what the shares have used, who leads.

ALTER TABLE builds ADD COLUMN kind        TEXT    NOT NULL DEFAULT '';   -- of its plan
ALTER TABLE builds ADD COLUMN quick       BOOLEAN NOT NULL DEFAULT FALSE; -- its last attempt took no slot
ALTER TABLE builds ADD COLUMN slow        BOOLEAN NOT NULL DEFAULT FALSE; -- it is for the slow lane
ALTER TABLE builds ADD COLUMN forced      INTEGER NOT NULL DEFAULT 0;    -- retries of its key that did not wait
ALTER TABLE builds ADD COLUMN quarantined BOOLEAN NOT NULL DEFAULT FALSE; -- too slow even for the slow lane
ALTER TABLE builds ADD COLUMN disk        BIGINT  NOT NULL DEFAULT 0;    -- bytes that it took at most; 0: unknown
ALTER TABLE sessions ADD COLUMN requester TEXT NOT NULL DEFAULT '';
CREATE INDEX builds_ended ON builds (ended) WHERE ended > 0;

CREATE TABLE rules (
	kind    TEXT   NOT NULL CHECK (kind IN ('ban', 'hold', 'weight', 'quota')),
	scope   TEXT   NOT NULL CHECK (scope IN ('repository', 'owner', 'requester')),
	pattern TEXT   NOT NULL CHECK (pattern <> ''),   -- today the whole name
	value   REAL   NOT NULL CHECK (value >= 0),
	reason  TEXT   NOT NULL,                         -- for operators
	message TEXT   NOT NULL,                         -- for visitors
	who     TEXT   NOT NULL,
	created BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	PRIMARY KEY (kind, scope, pattern)
);

-- How far each owner and requester was ahead of its share when that was last written down: one row, JSON.
CREATE TABLE usage (
	one   INTEGER PRIMARY KEY CHECK (one = 1),
	time  BIGINT  NOT NULL,
	flows TEXT    NOT NULL
);

-- Who may write. A hub that takes over counts up; a transaction of an earlier number fails.
CREATE TABLE leader (
	one   INTEGER PRIMARY KEY CHECK (one = 1),
	epoch BIGINT  NOT NULL,
	name  TEXT    NOT NULL,
	since BIGINT  NOT NULL
);
INSERT INTO leader (one, epoch, name, since) VALUES (1, 0, '', 0);
