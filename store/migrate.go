package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies the migrations that the database has not seen, each in a transaction of its own.
func migrate(ctx context.Context, db *sql.DB, now func() time.Time) error {
	const table = `CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied BIGINT NOT NULL)`
	if _, err := db.ExecContext(ctx, table); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var done int
	if err := db.QueryRowContext(ctx, `SELECT coalesce(max(number), 0) FROM migrations`).Scan(&done); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	names, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if done > len(names) {
		return bindery.Errorf(bindery.ErrConflict, bindery.Ours, "Start the newer Bindery again, or restore the state directory from a backup.",
			"The database was written by a newer Bindery: it has schema %d, this one knows %d", done, len(names))
	}
	for i, name := range names {
		if i < done {
			continue
		}
		if err := apply(ctx, db, i+1, name, now()); err != nil {
			return fmt.Errorf("migrate %s: %w", name, err)
		}
	}
	return nil
}

func apply(ctx context.Context, db *sql.DB, number int, name string, now time.Time) error {
	base := strings.TrimPrefix(name, "migrations/")
	if n, err := strconv.Atoi(base[:min(4, len(base))]); err != nil || n != number {
		return fmt.Errorf("it should be number %04d", number)
	}
	text, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, string(text)); err != nil {
		return err
	}
	more := map[string]func(context.Context, *sql.Tx) error{"0010_appendix.sql": nameUnfound, "0011_identities.sql": oneIdentity}
	if do := more[base]; do != nil {
		if err := do(ctx, tx); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO migrations (number, name, applied) VALUES ($1, $2, $3)`, number, base, micros(now)); err != nil {
		return err
	}
	return tx.Commit()
}

// An image is a row of images, with the source that it was made of.
type image struct {
	key, generation string
	source          bindery.Source
}

// allImages lists the newest first.
func allImages(ctx context.Context, tx *sql.Tx) ([]image, error) {
	return rows(ctx, tx, func(row scanner) (i image, err error) {
		var source string
		if err = row.Scan(&i.key, &i.generation, &source); err == nil {
			err = json.Unmarshal([]byte(source), &i.source)
		}
		return i, err
	}, `SELECT i.key, i.generation, b.source FROM images i JOIN builds b ON b.id = i.build WHERE i.generation <> '' ORDER BY i.created DESC`)
}

// nameUnfound gives images whose keys are not of their generation a generation that has these keys. Of two images of
// one commit the newest is found.
func nameUnfound(ctx context.Context, tx *sql.Tx) error {
	all, err := allImages(ctx, tx)
	if err != nil {
		return err
	}
	for _, i := range all {
		if i.source.Provider == bindery.ProviderLocal || i.key == bindery.BuildKey(i.source, i.generation) {
			continue
		}
		name := i.generation + "-appendix"
		if _, err := tx.ExecContext(ctx, `UPDATE OR IGNORE images SET generation = $1, key = $2 WHERE key = $3`, name, bindery.BuildKey(i.source, name), i.key); err != nil {
			return err
		}
	}
	return nil
}

// oneIdentity keys images by what their repositories are called now, the newest where two become one, and rules.
func oneIdentity(ctx context.Context, tx *sql.Tx) error {
	images, err := allImages(ctx, tx)
	if err != nil {
		return err
	}
	for _, i := range images {
		key := bindery.BuildKey(i.source, i.generation)
		if i.source.Provider == bindery.ProviderLocal || i.key == key {
			continue
		}
		if _, err := tx.ExecContext(ctx, `UPDATE OR IGNORE images SET key = $1 WHERE key = $2`, key, i.key); err != nil {
			return err
		}
	}
	names, err := rows(ctx, tx, func(row scanner) (p [2]string, err error) {
		return p, row.Scan(&p[0], &p[1])
	}, `SELECT DISTINCT scope, pattern FROM rules WHERE scope IN ($1, $2)`, bindery.OnRepository, bindery.OnOwner)
	if err != nil {
		return err
	}
	for _, old := range names {
		p, err := bindery.ParsePattern(bindery.PatternText(old[0], old[1]))
		if err != nil || p.Scope != old[0] || p.Names[0] == old[1] {
			continue // what cannot be read any more stays, to be lifted
		}
		if _, err := tx.ExecContext(ctx, `UPDATE OR IGNORE rules SET pattern = $1 WHERE scope = $2 AND pattern = $3`, p.Names[0], old[0], old[1]); err != nil {
			return err
		}
	}
	return nil
}
