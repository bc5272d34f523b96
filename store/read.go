package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

const buildColumns = `id, key, source, class, requester, state, attempt, worker, charged, failures, until, created, started, ended, result, error, last_seq, read_seq,
	kind, quick, slow, forced, quarantined, disk, evidence, generation`

const sessionColumns = `id, build, image, state, source, request, token, address, limits, reason, exit, created, ready, active, ended, requester`

type scanner interface{ Scan(dest ...any) error }

// Live returns everything that is not over, with the failed builds that answered for their keys until after since.
func (db *DB) Live(ctx context.Context, since time.Time) (bindery.Live, error) {
	var live bindery.Live
	var err error
	// One transaction, so that the three agree.
	tx, err := db.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return live, fmt.Errorf("read what is live: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	live.Builds, err = rows(ctx, tx, scanBuild, `SELECT `+buildColumns+` FROM builds WHERE state IN ('queued', 'running') ORDER BY place`)
	if err != nil {
		return live, fmt.Errorf("read builds: %w", err)
	}
	failed, err := rows(ctx, tx, scanBuild, `SELECT `+buildColumns+` FROM builds
		WHERE state = 'failed' AND until > $1 AND NOT EXISTS (SELECT 1 FROM images WHERE images.key = builds.key) ORDER BY ended, place`, micros(since))
	if err != nil {
		return live, fmt.Errorf("read failures: %w", err)
	}
	for _, b := range failed {
		live.Failed = append(live.Failed, b.Build)
	}
	live.Sessions, err = rows(ctx, tx, scanSession, `SELECT `+sessionColumns+` FROM sessions WHERE state <> 'ended' ORDER BY created, id`)
	if err != nil {
		return live, fmt.Errorf("read sessions: %w", err)
	}
	if err := generations(ctx, tx, &live); err != nil {
		return live, err
	}
	return live, db.queue(ctx, tx, &live)
}

// workers reads which workers have joined, and who may still.
func (db *DB) workers(ctx context.Context, tx *sql.Tx, live *bindery.Live) (err error) {
	live.Workers, err = rows(ctx, tx, scanWorker, `SELECT name, pool, address, shared, drained, who, reason, since, joined FROM workers ORDER BY name`)
	if err != nil {
		return fmt.Errorf("read workers: %w", err)
	}
	live.Tokens, err = rows(ctx, tx, scanToken, `SELECT id, hash, pool, uses, who, created, expires FROM join_tokens WHERE uses > 0 AND expires > $1 ORDER BY created, id`, micros(db.cfg.Now()))
	if err != nil {
		return fmt.Errorf("read join tokens: %w", err)
	}
	return nil
}

// queue reads what the queue knows beside builds.
func (db *DB) queue(ctx context.Context, tx *sql.Tx, live *bindery.Live) (err error) {
	// A rule that has expired counts no more, whether or not its row is there.
	live.Rules, err = rows(ctx, tx, scanRule, `SELECT kind, scope, pattern, value, reason, message, who, created, starts, expires, prebuild FROM rules
		WHERE expires = 0 OR expires > $1 ORDER BY kind, scope, pattern, starts`, micros(db.cfg.Now()))
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	if err := db.workers(ctx, tx, live); err != nil {
		return err
	}
	var at int64
	var flows string
	err = tx.QueryRowContext(ctx, `SELECT time, flows FROM usage`).Scan(&at, &flows)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(flows), &live.Usage.Flows)
	}
	if err != nil {
		return fmt.Errorf("read usage: %w", err)
	}
	live.Usage.Time = timeOf(at)
	since, err := rows(ctx, tx, scanBuild, `SELECT `+buildColumns+` FROM builds WHERE ended > $1 ORDER BY ended, place`, at)
	if err != nil {
		return fmt.Errorf("read builds that have ended: %w", err)
	}
	for _, b := range since {
		live.Since = append(live.Since, b.Build)
	}
	return nil
}

// Past returns the builds that ended last, at most limit of them, oldest first.
func (db *DB) Past(ctx context.Context, limit int) ([]bindery.Build, error) {
	found, err := rows(ctx, db.read, scanBuild, `SELECT `+buildColumns+` FROM builds WHERE ended > 0 ORDER BY ended DESC LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read builds of the past: %w", err)
	}
	out := make([]bindery.Build, len(found))
	for i, b := range found {
		out[len(found)-1-i] = b.Build
	}
	return out, nil
}

func scanRule(row scanner) (r bindery.Rule, err error) {
	var created, from, until int64
	var prebuild string
	err = row.Scan(&r.Kind, &r.Scope, &r.Name, &r.Value, &r.Reason, &r.Message, &r.Who, &created, &from, &until, &prebuild)
	r.Created, r.From, r.Until = timeOf(created), timeOf(from), timeOf(until)
	if err == nil {
		err = json.Unmarshal([]byte(prebuild), &r.Prebuild)
	}
	if len(r.Prebuild) == 0 {
		r.Prebuild = nil
	}
	return r, err
}

func scanWorker(row scanner) (r bindery.WorkerRecord, err error) {
	var since, joined int64
	err = row.Scan(&r.Name, &r.Pool, &r.Address, &r.Shared, &r.Drained, &r.Who, &r.Reason, &since, &joined)
	r.Since, r.Joined = timeOf(since), timeOf(joined)
	return r, err
}

func scanToken(row scanner) (t bindery.JoinToken, err error) {
	var created, expires int64
	err = row.Scan(&t.ID, &t.Hash, &t.Pool, &t.Uses, &t.Who, &created, &expires)
	t.Created, t.Expires = timeOf(created), timeOf(expires)
	return t, err
}

// Build returns one build.
func (db *DB) Build(ctx context.Context, id string) (bindery.Build, error) {
	b, err := scanBuild(db.read.QueryRowContext(ctx, `SELECT `+buildColumns+` FROM builds WHERE id = $1`, id))
	if err != nil {
		return bindery.Build{}, notFound(err, "build", id)
	}
	return b.Build, nil
}

// Events returns at most limit events of a build that follow number after.
func (db *DB) Events(ctx context.Context, build string, after int64, limit int) ([]bindery.Event, error) {
	const query = `SELECT seq, time, phase, message, more FROM events WHERE build = $1 AND seq > $2 ORDER BY seq LIMIT $3`
	events, err := rows(ctx, db.read, scanEvent, query, build, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read events of %s: %w", build, err)
	}
	return events, nil
}

// Known returns the image that answers for a key.
func (db *DB) Known(ctx context.Context, key string) (bindery.Known, error) {
	k := bindery.Known{Key: key}
	var result string
	var proven int64
	err := db.known.QueryRowContext(ctx, key).Scan(&k.Build, &result, &proven)
	if err != nil {
		return k, notFound(err, "image for the key", key)
	}
	k.Proven = timeOf(proven)
	if err := json.Unmarshal([]byte(result), &k.Result); err != nil {
		return k, fmt.Errorf("read image for %s: %w", key, err)
	}
	return k, nil
}

// Session returns one session, ended or not.
func (db *DB) Session(ctx context.Context, id string) (bindery.Session, error) {
	s, err := scanSession(db.read.QueryRowContext(ctx, `SELECT `+sessionColumns+` FROM sessions WHERE id = $1`, id))
	if err != nil {
		return bindery.Session{}, notFound(err, "session", id)
	}
	return s, nil
}

// Audit returns lines of the audit log, the newest first. Lines are never deleted.
func (db *DB) Audit(ctx context.Context, q bindery.AuditQuery) ([]bindery.Audit, error) {
	until := micros(q.Until)
	if q.Until.IsZero() {
		until = math.MaxInt64
	}
	const query = `SELECT id, time, who, did, what, reason FROM audit
		WHERE ($1 = '' OR lower(who) LIKE $1 ESCAPE '!')
			AND ($2 = '' OR lower(did || ' ' || what || ' ' || reason) LIKE $2 ESCAPE '!')
			AND time >= $3 AND time <= $4 AND id < $5
		ORDER BY id DESC LIMIT $6`
	lines, err := rows(ctx, db.read, scanAudit, query, within(q.Who), within(q.What), micros(q.Since), until, cmp.Or(q.Before, math.MaxInt64), cmp.Or(q.Limit, 100))
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return lines, nil
}

// within is a LIKE pattern for texts that hold s, in lower case; it is empty for an empty s.
func within(s string) string {
	if s == "" {
		return ""
	}
	return "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(strings.ToLower(s)) + "%"
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func rows[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rs, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rs.Close() }() // its error is rs.Err's
	var out []T
	for rs.Next() {
		x, err := scan(rs)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, rs.Err()
}

func scanBuild(row scanner) (b bindery.LiveBuild, err error) {
	var source string
	var result, fault sql.NullString
	var until, created, started, ended int64
	err = row.Scan(&b.ID, &b.Key, &source, &b.Class, &b.Requester, &b.State, &b.Attempt, &b.Worker, &b.Charged, &b.Row,
		&until, &created, &started, &ended, &result, &fault, &b.Seq, &b.Read,
		&b.Kind, &b.Quick, &b.Slow, &b.Forced, &b.Quarantined, &b.Disk, &b.Evidence, &b.Generation)
	if err != nil {
		return b, err
	}
	b.Until, b.Created, b.Started, b.Ended = timeOf(until), timeOf(created), timeOf(started), timeOf(ended)
	if err := json.Unmarshal([]byte(source), &b.Source); err != nil {
		return b, err
	}
	if b.Result, err = pointer[bindery.BuildResult](result); err != nil {
		return b, err
	}
	b.Err, err = pointer[bindery.Error](fault)
	return b, err
}

func scanEvent(row scanner) (e bindery.Event, err error) {
	var at int64
	var rest sql.NullString
	if err := row.Scan(&e.Seq, &at, &e.Phase, &e.Message, &rest); err != nil {
		return e, err
	}
	e.Time = timeOf(at)
	m, err := pointer[more](rest)
	if m != nil {
		e.Step, e.Result, e.Err, e.Plan = m.Step, m.Result, m.Err, m.Plan
	}
	return e, err
}

func scanSession(row scanner) (s bindery.Session, err error) {
	var source, limits string
	var exit sql.NullString
	var created, ready, active, ended int64
	err = row.Scan(&s.ID, &s.Build, &s.Image, &s.State, &source, &s.Request, &s.Token, &s.Address, &limits, &s.Reason, &exit,
		&created, &ready, &active, &ended, &s.Requester)
	if err != nil {
		return s, err
	}
	s.Created, s.Ready, s.Active, s.Ended = timeOf(created), timeOf(ready), timeOf(active), timeOf(ended)
	if err := json.Unmarshal([]byte(source), &s.Source); err != nil {
		return s, err
	}
	if err := json.Unmarshal([]byte(limits), &s.Limits); err != nil {
		return s, err
	}
	s.Exit, err = pointer[bindery.Exit](exit)
	return s, err
}

// pointer reads JSON that may be NULL.
func pointer[T any](text sql.NullString) (*T, error) {
	if !text.Valid {
		return nil, nil
	}
	p := new(T)
	return p, json.Unmarshal([]byte(text.String), p)
}
