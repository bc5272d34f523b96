package store

import (
	"context"
	"fmt"

	bindery "github.com/bindery-hub/bindery"
)

// BuildsEnded returns a page of the builds that ended in a span, oldest first.
func (db *DB) BuildsEnded(ctx context.Context, s bindery.Span) ([]bindery.Build, error) {
	found, err := rows(ctx, db.read, scanBuild, `SELECT `+buildColumns+` FROM builds
		WHERE ended > 0 AND ended >= $1 AND ended < $2 AND (ended > $1 OR id > $3) ORDER BY ended, id LIMIT $4`, micros(s.Since), micros(s.Until), s.After, s.Limit)
	if err != nil {
		return nil, fmt.Errorf("read builds of a time: %w", err)
	}
	out := make([]bindery.Build, len(found))
	for i, b := range found {
		out[i] = b.Build
	}
	return out, nil
}

// SessionsEnded returns a page of the sessions that ended in a span, oldest first, without their tokens.
func (db *DB) SessionsEnded(ctx context.Context, s bindery.Span) ([]bindery.Session, error) {
	out, err := rows(ctx, db.read, scanSession, `SELECT `+sessionColumns+` FROM sessions
		WHERE state = 'ended' AND ended >= $1 AND ended < $2 AND (ended > $1 OR id > $3) ORDER BY ended, id LIMIT $4`, micros(s.Since), micros(s.Until), s.After, s.Limit)
	if err != nil {
		return nil, fmt.Errorf("read sessions of a time: %w", err)
	}
	for i := range out {
		out[i].Token = ""
	}
	return out, nil
}

// AuditOf returns a page of the audit log of a span, oldest first.
func (db *DB) AuditOf(ctx context.Context, s bindery.Span) ([]bindery.Audit, error) {
	out, err := rows(ctx, db.read, scanAudit, `SELECT id, time, who, did, what, reason FROM audit
		WHERE time >= $1 AND time < $2 AND (time > $1 OR id > $3) ORDER BY time, id LIMIT $4`, micros(s.Since), micros(s.Until), s.Number, s.Limit)
	if err != nil {
		return nil, fmt.Errorf("read the audit log of a time: %w", err)
	}
	return out, nil
}

func scanAudit(row scanner) (a bindery.Audit, err error) {
	var at int64
	err = row.Scan(&a.ID, &at, &a.Who, &a.Did, &a.What, &a.Reason)
	a.Time = timeOf(at)
	return a, err
}
