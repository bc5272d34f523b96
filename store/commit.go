package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	bindery "github.com/bindery-hub/bindery"
)

// statements are prepared once, on the one connection that writes.
type statements struct {
	build, tail, known, forget, session, audit, forgive, rule, lift, usage, leader *sql.Stmt
	worker, dismiss, token                                                         *sql.Stmt
	generation, held, unheld, started                                              *sql.Stmt
	begin, event                                                                   [2]*sql.Stmt // for one row, for many
}

func (s *statements) all() map[string]**sql.Stmt {
	return map[string]**sql.Stmt{
		putBuild: &s.build, putTail: &s.tail, putKnown: &s.known,
		putBegin.text(1): &s.begin[0], putBegin.text(many): &s.begin[1], putEvent.text(1): &s.event[0], putEvent.text(many): &s.event[1],
		forgetKnown: &s.forget, putSession: &s.session, putAudit: &s.audit,
		forgiveKey: &s.forgive, putRule: &s.rule, liftRule: &s.lift, putUsage: &s.usage, getEpoch: &s.leader,
		putWorker: &s.worker, dropWorker: &s.dismiss, putToken: &s.token,
		putGeneration: &s.generation, putHeld: &s.held, dropHeld: &s.unheld, putStarted: &s.started,
	}
}

const (
	// A new attempt begins to read its worker's events at the first.
	putBuild = `INSERT INTO builds (id, key, source, class, requester, state, attempt, worker, charged, failures, until, created, started, ended, result, error,
			kind, quick, slow, forced, quarantined, disk, evidence, generation)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
			$17, $18, $19, $20, $21, $22, $23, $24)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, worker = excluded.worker,
			charged = excluded.charged, failures = excluded.failures, until = excluded.until,
			started = excluded.started, ended = excluded.ended, result = excluded.result, error = excluded.error,
			class = excluded.class, evidence = excluded.evidence, requester = excluded.requester, kind = excluded.kind, quick = excluded.quick, slow = excluded.slow,
			forced = excluded.forced, quarantined = excluded.quarantined, disk = excluded.disk,
			read_seq = CASE WHEN excluded.attempt = builds.attempt THEN builds.read_seq ELSE 0 END`
	// Only events that follow what is stored may be added: a writer that has lost track is refused.
	putTail = `UPDATE builds SET last_seq = $4, read_seq = CASE WHEN attempt = $2 THEN $3 ELSE read_seq END
		WHERE id = $1 AND last_seq = $5`
	putKnown = `INSERT INTO images (key, build, image, result, created, generation) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (key) DO UPDATE SET build = excluded.build, image = excluded.image, result = excluded.result, created = excluded.created,
			generation = excluded.generation, proven = CASE WHEN excluded.image = images.image THEN images.proven ELSE 0 END`
	forgetKnown = `DELETE FROM images WHERE key = $1`
	putSession  = `INSERT INTO sessions (id, build, image, state, source, request, token, address, limits, reason, exit, created, ready, active, ended, requester)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, address = excluded.address, reason = excluded.reason, exit = excluded.exit,
			ready = excluded.ready, active = excluded.active, ended = excluded.ended`
	putAudit = `INSERT INTO audit (time, who, did, what, reason) VALUES ($1, $2, $3, $4, $5)`
	// The record of the failure stays; it answers no more, and counts as none in a row.
	forgiveKey = `UPDATE builds SET until = 0, failures = 0, forced = 0, quarantined = 0 WHERE key = $1 AND state = 'failed' AND until > 0`
	putRule    = `INSERT INTO rules (kind, scope, pattern, value, reason, message, who, created, starts, expires, prebuild)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (kind, scope, pattern, starts) DO UPDATE SET value = excluded.value, reason = excluded.reason, message = excluded.message,
			who = excluded.who, created = excluded.created, expires = excluded.expires, prebuild = excluded.prebuild`
	putWorker = `INSERT INTO workers (name, pool, address, shared, drained, who, reason, since, joined) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (name) DO UPDATE SET pool = excluded.pool, address = excluded.address, shared = excluded.shared, drained = excluded.drained,
			who = excluded.who, reason = excluded.reason, since = excluded.since, joined = excluded.joined`
	dropWorker = `DELETE FROM workers WHERE name = $1`
	putToken   = `INSERT INTO join_tokens (id, hash, pool, uses, who, created, expires) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET uses = excluded.uses`
	liftRule = `DELETE FROM rules WHERE kind = $1 AND scope = $2 AND pattern = $3 AND starts = $4`
	getEpoch = `SELECT epoch FROM leader`
	putUsage = `INSERT INTO usage (one, time, flows) VALUES (1, $1, $2) ON CONFLICT (one) DO UPDATE SET time = excluded.time, flows = excluded.flows`
)

// Commit writes all changes in one transaction. When it returns nil they survive a power cut.
func (db *DB) Commit(ctx context.Context, c bindery.Changes) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	// The driver would start a watcher of ctx for each statement; between two of them it is looked at here.
	w := writer{ctx: context.WithoutCancel(ctx), over: ctx.Done(), tx: tx, now: micros(db.cfg.Now()), fault: db.cfg.Fault}
	if err := db.leads(&w); err != nil {
		return err
	}
	if err := db.writeAll(&w, c); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := db.cfg.Fault(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Lead makes this the database's one writer under a name: from now on the transactions of all who led before fail. The
// file lock of the state directory keeps two hubs apart where it works; this holds where it does not.
func (db *DB) Lead(ctx context.Context, name string) (epoch int64, err error) {
	err = db.write.QueryRowContext(ctx, `UPDATE leader SET epoch = epoch + 1, name = $1, since = $2 RETURNING epoch`, name, micros(db.cfg.Now())).Scan(&epoch)
	if err != nil {
		return 0, fmt.Errorf("lead: %w", err)
	}
	db.epoch.Store(epoch)
	return epoch, nil
}

// leads refuses a transaction of one who has been deposed. It is asked inside the transaction, which holds the one write
// lock: nobody can take over between the question and the commit.
func (db *DB) leads(w *writer) error {
	mine := db.epoch.Load()
	if mine == 0 {
		return nil
	}
	var epoch int64
	if err := w.tx.StmtContext(w.ctx, db.put.leader).QueryRowContext(w.ctx).Scan(&epoch); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if epoch != mine {
		return bindery.Errorf(bindery.ErrLocked, bindery.Ours, "Let one hub serve a state directory.",
			"Another hub has taken over: it has lease %d, this one had %d", epoch, mine)
	}
	return nil
}

// writer is one transaction. It lives as long as the call whose context it has.
type writer struct {
	ctx   context.Context
	over  <-chan struct{} // closed when nobody waits for it any more
	tx    *sql.Tx
	now   int64
	fault func() error
}

func (w *writer) exec(st *sql.Stmt, args ...any) (sql.Result, error) {
	if err := w.fault(); err != nil {
		return nil, err
	}
	select {
	case <-w.over:
		return nil, context.Canceled
	default:
	}
	return w.tx.StmtContext(w.ctx, st).ExecContext(w.ctx, args...)
}

func (db *DB) writeAll(w *writer, c bindery.Changes) error {
	if err := db.writeStories(w, c); err != nil {
		return err
	}
	for _, key := range c.Forget {
		if _, err := w.exec(db.put.forget, key); err != nil {
			return fmt.Errorf("image for %s: %w", key, err)
		}
	}
	for _, k := range c.Known {
		result, err := json.Marshal(k.Result)
		if err != nil {
			return err
		}
		if _, err := w.exec(db.put.known, k.Key, k.Build, k.Result.Image, string(result), w.now, k.Result.Generation); err != nil {
			return fmt.Errorf("image for %s: %w", k.Key, err)
		}
	}
	for _, s := range c.Sessions {
		if err := db.writeSession(w, s); err != nil {
			return fmt.Errorf("session %s: %w", s.ID, err)
		}
	}
	for _, a := range c.Audit {
		if _, err := w.exec(db.put.audit, micros(a.Time), a.Who, a.Did, a.What, a.Reason); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	if err := db.writeGenerations(w, c); err != nil {
		return err
	}
	return db.writeQueue(w, c)
}

// writeQueue writes what the queue must not forget beside builds.
func (db *DB) writeQueue(w *writer, c bindery.Changes) error {
	for _, key := range c.Forgive {
		if _, err := w.exec(db.put.forgive, key); err != nil {
			return fmt.Errorf("forgive %s: %w", key, err)
		}
	}
	for _, r := range c.Lifted {
		if _, err := w.exec(db.put.lift, r.Kind, r.Scope, r.Name, micros(r.From)); err != nil {
			return fmt.Errorf("lift %s of %s: %w", r.Kind, r.Name, err)
		}
	}
	for _, r := range c.Rules {
		prebuild, err := json.Marshal(append([]bindery.Source{}, r.Prebuild...))
		if err == nil {
			_, err = w.exec(db.put.rule, r.Kind, r.Scope, r.Name, r.Value, r.Reason, r.Message, r.Who, micros(r.Created), micros(r.From), micros(r.Until), string(prebuild))
		}
		if err != nil {
			return fmt.Errorf("%s of %s: %w", r.Kind, r.Name, err)
		}
	}
	if err := db.writeWorkers(w, c); err != nil {
		return err
	}
	if c.Usage == nil {
		return nil
	}
	flows, err := json.Marshal(c.Usage.Flows)
	if err == nil {
		_, err = w.exec(db.put.usage, micros(c.Usage.Time), string(flows))
	}
	if err != nil {
		return fmt.Errorf("usage: %w", err)
	}
	return nil
}

// writeWorkers writes which workers there are, and who may become one.
func (db *DB) writeWorkers(w *writer, c bindery.Changes) error {
	for _, name := range c.Removed {
		if _, err := w.exec(db.put.dismiss, name); err != nil {
			return fmt.Errorf("remove the worker %s: %w", name, err)
		}
	}
	for _, r := range c.Workers {
		if _, err := w.exec(db.put.worker, r.Name, r.Pool, r.Address, r.Shared, r.Drained, r.Who, r.Reason, micros(r.Since), micros(r.Joined)); err != nil {
			return fmt.Errorf("worker %s: %w", r.Name, err)
		}
	}
	for _, t := range c.Tokens {
		if _, err := w.exec(db.put.token, t.ID, t.Hash, t.Pool, t.Uses, t.Who, micros(t.Created), micros(t.Expires)); err != nil {
			return fmt.Errorf("token %s: %w", t.ID, err)
		}
	}
	return nil
}

func (db *DB) writeSession(w *writer, s bindery.Session) error {
	source, err := json.Marshal(s.Source)
	if err != nil {
		return err
	}
	limits, err := json.Marshal(s.Limits)
	if err != nil {
		return err
	}
	exit, err := optional(s.Exit)
	if err != nil {
		return err
	}
	_, err = w.exec(db.put.session, s.ID, s.Build, s.Image, string(s.State), string(source), s.Request, s.Token, s.Address, string(limits), s.Reason,
		exit, micros(s.Created), micros(s.Ready), micros(s.Active), micros(s.Ended), s.Requester)
	return err
}

// optional is the JSON of what p points to, or NULL.
func optional[T any](p *T) (any, error) {
	if p == nil {
		return nil, nil
	}
	text, err := json.Marshal(p)
	return string(text), err
}
