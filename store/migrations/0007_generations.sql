-- Generations of the builder, what each could not replace, and what roll-outs and retention must know of images.

CREATE TABLE generations (
	name    TEXT    PRIMARY KEY,
	place   INTEGER NOT NULL UNIQUE,                 -- the newest has the highest
	state   TEXT    NOT NULL CHECK (state IN ('new', 'canary', 'rolling', 'paused', 'current', 'old', 'withdrawn')),
	recipe  TEXT    NOT NULL,                        -- JSON
	created BIGINT  NOT NULL,
	changed BIGINT  NOT NULL,
	rollout TEXT,                                    -- JSON

	CHECK (state NOT IN ('canary', 'rolling', 'paused') OR rollout IS NOT NULL)
);
-- One takes over at a time, from one.
CREATE UNIQUE INDEX generations_one_rolls ON generations ((1)) WHERE state IN ('canary', 'rolling', 'paused');
CREATE UNIQUE INDEX generations_one_current ON generations ((1)) WHERE state = 'current';

CREATE TABLE held (
	key        TEXT   PRIMARY KEY,                   -- of the replacement
	generation TEXT   NOT NULL,
	source     TEXT   NOT NULL,                      -- JSON
	build      TEXT   NOT NULL,
	stage      TEXT   NOT NULL CHECK (stage IN ('build', 'start')),
	reason     TEXT   NOT NULL,
	fault      TEXT   NOT NULL,
	at         BIGINT NOT NULL
);

ALTER TABLE builds ADD COLUMN generation TEXT NOT NULL DEFAULT ''; -- that is to make it; empty: whichever the worker has
ALTER TABLE images ADD COLUMN generation TEXT   NOT NULL DEFAULT '';
ALTER TABLE images ADD COLUMN proven     BIGINT NOT NULL DEFAULT 0; -- when a session of it answered first
ALTER TABLE images ADD COLUMN used       BIGINT NOT NULL DEFAULT 0; -- last launch
-- Until now an image was found by its key alone, and served as soon as it was built.
UPDATE images SET generation = coalesce(json_extract(result, '$.generation'), ''), proven = created;
CREATE INDEX images_by_name ON images (image);
CREATE INDEX sessions_created ON sessions (created);
