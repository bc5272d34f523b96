-- Rules that hold launches back. A CHECK cannot be changed in place.

CREATE TABLE rules_now (
	kind    TEXT   NOT NULL CHECK (kind IN ('ban', 'hold', 'hold-launches', 'weight', 'quota')),
	scope   TEXT   NOT NULL CHECK (scope IN ('repository', 'owner', 'requester')),
	pattern TEXT   NOT NULL CHECK (pattern <> ''),
	value   REAL   NOT NULL CHECK (value >= 0),
	reason  TEXT   NOT NULL,                         -- for operators
	message TEXT   NOT NULL,                         -- for visitors
	who     TEXT   NOT NULL,
	created BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	PRIMARY KEY (kind, scope, pattern)
);
INSERT INTO rules_now (kind, scope, pattern, value, reason, message, who, created, expires)
	SELECT kind, scope, pattern, value, reason, message, who, created, expires FROM rules;
DROP TABLE rules;
ALTER TABLE rules_now RENAME TO rules;
