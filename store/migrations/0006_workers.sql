-- Workers that have joined a hub, and tokens to join it by.

CREATE TABLE workers (
	name    TEXT    PRIMARY KEY CHECK (name <> ''),
	pool    TEXT    NOT NULL,
	address TEXT    NOT NULL,                        -- unix:SOCKET or tls:HOST:PORT; empty: the hub's own
	shared  BOOLEAN NOT NULL,                        -- its images are where the hub sees them
	drained BOOLEAN NOT NULL,
	who     TEXT    NOT NULL,
	reason  TEXT    NOT NULL,
	since   BIGINT  NOT NULL,
	joined  BIGINT  NOT NULL
);

CREATE TABLE join_tokens (
	id      TEXT    PRIMARY KEY,
	hash    TEXT    NOT NULL CHECK (hash <> ''),
	pool    TEXT    NOT NULL,
	uses    INTEGER NOT NULL CHECK (uses >= 0),
	who     TEXT    NOT NULL,
	created BIGINT  NOT NULL,
	expires BIGINT  NOT NULL
);
