package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

const (
	putGeneration = `INSERT INTO generations (name, place, state, recipe, created, changed, rollout) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (name) DO UPDATE SET place = excluded.place, state = excluded.state, recipe = excluded.recipe, changed = excluded.changed, rollout = excluded.rollout`
	putHeld = `INSERT INTO held (key, generation, source, build, stage, reason, fault, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (key) DO UPDATE SET build = excluded.build, stage = excluded.stage, reason = excluded.reason, fault = excluded.fault, at = excluded.at`
	dropHeld = `DELETE FROM held WHERE key = $1`
	// Keys of one image share it: what is proven of one is proven of all.
	putStarted = `UPDATE images SET proven = CASE WHEN proven = 0 THEN $2 ELSE proven END, used = CASE WHEN used < $3 THEN $3 ELSE used END WHERE image = $1`
)

// writeGenerations writes what roll-outs and retention go by. A generation that stops being the current one is written
// before the one that becomes it: no two are.
func (db *DB) writeGenerations(w *writer, c bindery.Changes) error {
	for _, last := range []bool{false, true} {
		for _, g := range c.Generations {
			if taking := g.State == bindery.GenerationCurrent || g.State.RollsOut(); taking != last {
				continue
			}
			if err := db.writeGeneration(w, g); err != nil {
				return fmt.Errorf("generation %s: %w", g.Name, err)
			}
		}
	}
	for _, key := range c.Unheld {
		if _, err := w.exec(db.put.unheld, key); err != nil {
			return fmt.Errorf("held %s: %w", key, err)
		}
	}
	for _, h := range c.Held {
		source, err := json.Marshal(h.Source)
		if err != nil {
			return err
		}
		if _, err := w.exec(db.put.held, h.Key, h.Generation, string(source), h.Build, h.Stage, h.Reason, string(h.Fault), micros(h.At)); err != nil {
			return fmt.Errorf("held %s: %w", h.Key, err)
		}
	}
	for _, s := range c.Started {
		used := int64(0)
		if s.Visitor {
			used = micros(s.At)
		}
		if _, err := w.exec(db.put.started, s.Image, micros(s.At), used); err != nil {
			return fmt.Errorf("image %s: %w", s.Image, err)
		}
	}
	return nil
}

func (db *DB) writeGeneration(w *writer, g bindery.Generation) error {
	recipe, err := json.Marshal(g.Recipe)
	if err != nil {
		return err
	}
	rollout, err := optional(g.Rollout)
	if err != nil {
		return err
	}
	_, err = w.exec(db.put.generation, g.Name, g.Place, string(g.State), string(recipe), micros(g.Created), micros(g.Changed), rollout)
	return err
}

// generations reads what the hub knows of its builders.
func generations(ctx context.Context, tx *sql.Tx, live *bindery.Live) (err error) {
	live.Generations, err = rows(ctx, tx, scanGeneration, `SELECT name, place, state, recipe, created, changed, rollout FROM generations ORDER BY place`)
	if err != nil {
		return fmt.Errorf("read generations: %w", err)
	}
	live.Held, err = rows(ctx, tx, scanHeld, `SELECT key, generation, source, build, stage, reason, fault, at FROM held ORDER BY at, key`)
	if err != nil {
		return fmt.Errorf("read what is held: %w", err)
	}
	return nil
}

func scanGeneration(row scanner) (g bindery.Generation, err error) {
	var recipe string
	var rollout sql.NullString
	var created, changed int64
	if err := row.Scan(&g.Name, &g.Place, &g.State, &recipe, &created, &changed, &rollout); err != nil {
		return g, err
	}
	g.Created, g.Changed = timeOf(created), timeOf(changed)
	if err := json.Unmarshal([]byte(recipe), &g.Recipe); err != nil {
		return g, err
	}
	g.Rollout, err = pointer[bindery.Rollout](rollout)
	return g, err
}

func scanHeld(row scanner) (h bindery.Held, err error) {
	var source string
	var at int64
	if err := row.Scan(&h.Key, &h.Generation, &source, &h.Build, &h.Stage, &h.Reason, &h.Fault, &at); err != nil {
		return h, err
	}
	h.At = timeOf(at)
	return h, json.Unmarshal([]byte(source), &h.Source)
}

// Images returns all images that answer for keys, in order of their keys. Launches counts those of the same commit since
// a time, whichever generation's image they took, without the canary's.
func (db *DB) Images(ctx context.Context, since time.Time) ([]bindery.ImageRecord, error) {
	tx, err := db.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // so that the two agree
	if err != nil {
		return nil, fmt.Errorf("read images: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	all, err := rows(ctx, tx, scanImage, `SELECT i.key, i.build, i.image, b.source, i.generation, i.created, i.proven, i.used
		FROM images i JOIN builds b ON b.id = i.build ORDER BY i.key`)
	if err != nil {
		return nil, fmt.Errorf("read images: %w", err)
	}
	type count struct {
		source bindery.Source
		n      int
	}
	counts, err := rows(ctx, tx, func(row scanner) (c count, err error) {
		var source string
		if err := row.Scan(&source, &c.n); err != nil {
			return c, err
		}
		return c, json.Unmarshal([]byte(source), &c.source)
	}, `SELECT b.source, c.n FROM (SELECT build, count(*) AS n FROM sessions WHERE created >= $1 AND requester <> $2 GROUP BY build) c JOIN builds b ON b.id = c.build`, micros(since), bindery.CanaryRequester)
	if err != nil {
		return nil, fmt.Errorf("count launches: %w", err)
	}
	launches := map[string]int{}
	for _, c := range counts {
		launches[c.source.Spec()] += c.n
	}
	for i := range all {
		all[i].Launches = launches[all[i].Source.Spec()]
	}
	return all, nil
}

func scanImage(row scanner) (r bindery.ImageRecord, err error) {
	var source string
	var created, proven, used int64
	if err := row.Scan(&r.Key, &r.Build, &r.Image, &source, &r.Generation, &created, &proven, &used); err != nil {
		return r, err
	}
	r.Created, r.Proven, r.Used = timeOf(created), timeOf(proven), timeOf(used)
	return r, json.Unmarshal([]byte(source), &r.Source)
}

// Launched calls f for each session but the canary's that was admitted since a time, in order: of which build, when, and
// whether it failed for a reason that was not its visitor's.
func (db *DB) Launched(ctx context.Context, since time.Time, f func(build string, at time.Time, failed bool)) error {
	rs, err := db.read.QueryContext(ctx, `SELECT build, created, ready = 0 AND ended > 0 AND reason NOT LIKE 'Its visitor left%' AND reason NOT LIKE 'The hub %'
		FROM sessions WHERE created >= $1 AND requester <> $2 ORDER BY created`, micros(since), bindery.CanaryRequester)
	if err != nil {
		return fmt.Errorf("read launches: %w", err)
	}
	defer func() { _ = rs.Close() }() // its error is rs.Err's
	for rs.Next() {
		var build string
		var at int64
		var failed bool
		if err := rs.Scan(&build, &at, &failed); err != nil {
			return fmt.Errorf("read launches: %w", err)
		}
		f(build, timeOf(at), failed)
	}
	if err := rs.Err(); err != nil {
		return fmt.Errorf("read launches: %w", err)
	}
	return nil
}
