-- A build that is asked for and started is one new row here and one there: fewer trees to keep make that faster. The
-- order of submission is SQLite's own row number now, events have no row number beside their key. What events belong
-- to is checked by those who write them: they follow the build's last one, or are refused.

CREATE TABLE narrow_builds (
	place      INTEGER PRIMARY KEY,                  -- order of submission
	id         TEXT    NOT NULL UNIQUE,
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
	kind        TEXT    NOT NULL DEFAULT '',
	quick       BOOLEAN NOT NULL DEFAULT FALSE,
	slow        BOOLEAN NOT NULL DEFAULT FALSE,
	forced      INTEGER NOT NULL DEFAULT 0,
	quarantined BOOLEAN NOT NULL DEFAULT FALSE,
	disk        BIGINT  NOT NULL DEFAULT 0,
	evidence    TEXT    NOT NULL DEFAULT '',

	CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (ended > 0)),
	CHECK ((state = 'succeeded') = (result IS NOT NULL)),
	CHECK (state <> 'failed' OR error IS NOT NULL),
	CHECK (state <> 'running' OR (attempt > 0 AND worker <> ''))
);
INSERT INTO narrow_builds (place, id, key, source, class, requester, state, attempt, worker, charged, failures, until, created, started,
		ended, result, error, read_seq, last_seq, kind, quick, slow, forced, quarantined, disk, evidence)
	SELECT place, id, key, source, class, requester, state, attempt, worker, charged, failures, until, created, started,
		ended, result, error, read_seq, last_seq, kind, quick, slow, forced, quarantined, disk, evidence FROM builds;

CREATE TABLE narrow_events (
	build   TEXT   NOT NULL,
	seq     BIGINT NOT NULL CHECK (seq > 0),
	time    BIGINT NOT NULL,
	phase   TEXT   NOT NULL,
	message TEXT   NOT NULL,
	more    TEXT,                                    -- JSON of an event's other parts
	PRIMARY KEY (build, seq)
) WITHOUT ROWID;
INSERT INTO narrow_events (build, seq, time, phase, message, more) SELECT build, seq, time, phase, message, more FROM events;

CREATE TABLE narrow_images (
	key     TEXT   PRIMARY KEY,
	build   TEXT   NOT NULL REFERENCES narrow_builds (id),
	image   TEXT   NOT NULL,
	result  TEXT   NOT NULL,                         -- JSON
	created BIGINT NOT NULL
);
INSERT INTO narrow_images (key, build, image, result, created) SELECT key, build, image, result, created FROM images;

DROP TABLE images;
DROP TABLE events;
DROP TABLE builds;
ALTER TABLE narrow_builds RENAME TO builds; -- the images' reference follows it
ALTER TABLE narrow_events RENAME TO events;
ALTER TABLE narrow_images RENAME TO images;

-- The rows that are live are few: this index finds them too.
CREATE UNIQUE INDEX builds_one_live_per_key ON builds (key) WHERE state IN ('queued', 'running');
CREATE INDEX builds_failed ON builds (until) WHERE state = 'failed';
CREATE INDEX builds_ended ON builds (ended) WHERE ended > 0;
