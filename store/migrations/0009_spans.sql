-- What ended between two times.

CREATE INDEX sessions_ended ON sessions (ended) WHERE state = 'ended';
