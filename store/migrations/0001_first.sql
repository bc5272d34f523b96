-- Builds, their events, the images that answer for keys, sessions, the audit log.
-- Times are microseconds since 1970 in UTC; 0 is "not yet".

CREATE TABLE builds (
	id         TEXT    PRIMARY KEY,
	place      BIGINT  NOT NULL UNIQUE,              -- order of submission
	key        TEXT    NOT NULL,
	source     TEXT    NOT NULL,                     -- JSON
	class      TEXT    NOT NULL CHECK (class IN ('attended', 'unattended', 'background')),
	requester  TEXT    NOT NULL,
	state      TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
	attempt    INTEGER NOT NULL CHECK (attempt >= 0),
	worker     TEXT    NOT NULL,
	charged    INTEGER NOT NULL CHECK (charged >= 0 AND charged <= attempt),
	failures   INTEGER NOT NULL,                     -- of the key, in a row
	until      BIGINT  NOT NULL,
	created    BIGINT  NOT NULL,
	started    BIGINT  NOT NULL,
	ended      BIGINT  NOT NULL,
	result     TEXT,                                 -- JSON
	error      TEXT,                                 -- JSON
	read_seq   BIGINT  NOT NULL DEFAULT 0,           -- the worker's number of the last event read of the attempt
	last_seq   BIGINT  NOT NULL DEFAULT 0,           -- number of the newest event

	CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (ended > 0)),
	CHECK ((state = 'succeeded') = (result IS NOT NULL)),
	CHECK (state <> 'failed' OR error IS NOT NULL),
	CHECK (state <> 'running' OR (attempt > 0 AND worker <> ''))
);
CREATE UNIQUE INDEX builds_one_live_per_key ON builds (key) WHERE state IN ('queued', 'running');
CREATE INDEX builds_live ON builds (place) WHERE state IN ('queued', 'running');
CREATE INDEX builds_failed ON builds (until) WHERE state = 'failed';

CREATE TABLE events (
	build   TEXT   NOT NULL REFERENCES builds (id),
	seq     BIGINT NOT NULL CHECK (seq > 0),
	time    BIGINT NOT NULL,
	phase   TEXT   NOT NULL,
	message TEXT   NOT NULL,
	more    TEXT,                                    -- JSON of an event's other parts
	PRIMARY KEY (build, seq)
);

CREATE TABLE images (
	key     TEXT   PRIMARY KEY,
	build   TEXT   NOT NULL REFERENCES builds (id),
	image   TEXT   NOT NULL,
	result  TEXT   NOT NULL,                         -- JSON
	created BIGINT NOT NULL
);

CREATE TABLE sessions (
	id      TEXT   PRIMARY KEY,
	build   TEXT   NOT NULL,
	image   TEXT   NOT NULL,
	state   TEXT   NOT NULL CHECK (state IN ('pending', 'ready', 'stopping', 'ended')),
	source  TEXT   NOT NULL,                         -- JSON
	request TEXT   NOT NULL,
	token   TEXT   NOT NULL,
	address TEXT   NOT NULL,
	limits  TEXT   NOT NULL,                         -- JSON
	reason  TEXT   NOT NULL,
	exit    TEXT,                                    -- JSON
	created BIGINT NOT NULL,
	ready   BIGINT NOT NULL,
	active  BIGINT NOT NULL,
	ended   BIGINT NOT NULL,

	CHECK ((state = 'ended') = (ended > 0)),
	CHECK (state <> 'ready' OR (ready > 0 AND address <> ''))
);
CREATE INDEX sessions_live ON sessions (created) WHERE state <> 'ended';

CREATE TABLE audit (
	id     INTEGER PRIMARY KEY,
	time   BIGINT  NOT NULL,
	who    TEXT    NOT NULL,
	did    TEXT    NOT NULL,
	what   TEXT    NOT NULL,
	reason TEXT    NOT NULL
);
