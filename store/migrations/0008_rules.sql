-- Rules about networks and expressions, rules that begin later, holds until something is built; the audit log by time.
-- A CHECK and a key cannot be changed in place.

CREATE TABLE rules_now (
	kind     TEXT   NOT NULL CHECK (kind IN ('ban', 'hold', 'hold-launches', 'hold-until-built', 'weight', 'quota')),
	scope    TEXT   NOT NULL CHECK (scope IN ('repository', 'owner', 'requester', 'network', 'spec')),
	pattern  TEXT   NOT NULL CHECK (pattern <> ''),
	starts   BIGINT NOT NULL,                         -- 0: it was in force at once
	value    REAL   NOT NULL CHECK (value >= 0),
	reason   TEXT   NOT NULL,                         -- for operators
	message  TEXT   NOT NULL,                         -- for visitors
	who      TEXT   NOT NULL,
	created  BIGINT NOT NULL,
	expires  BIGINT NOT NULL CHECK (expires = 0 OR expires > starts),
	prebuild TEXT   NOT NULL DEFAULT '[]',            -- links, JSON
	PRIMARY KEY (kind, scope, pattern, starts)
);
INSERT INTO rules_now (kind, scope, pattern, starts, value, reason, message, who, created, expires)
	SELECT kind, scope, pattern, 0, value, reason, message, who, created, expires FROM rules;
DROP TABLE rules;
ALTER TABLE rules_now RENAME TO rules;
CREATE INDEX audit_time ON audit (time);
