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
	if base == "0010_appendix.sql" {
		if err := nameUnfound(ctx, tx); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO migrations (number, name, applied) VALUES ($1, $2, $3)`, number, base, micros(now)); err != nil {
		return err
	}
	return tx.Commit()
}

// nameUnfound gives images whose keys are not of their generation a generation that has these keys. Of two images of
// one commit the newest is found.
func nameUnfound(ctx context.Context, tx *sql.Tx) error {
	type image struct{ key, generation, source string }
	all, err := rows(ctx, tx, func(row scanner) (i image, err error) {
		return i, row.Scan(&i.key, &i.generation, &i.source)
	}, `SELECT i.key, i.generation, b.source FROM images i JOIN builds b ON b.id = i.build WHERE i.generation <> '' ORDER BY i.created DESC`)
	if err != nil {
		return err
	}
	for _, i := range all {
		var src bindery.Source
		if err := json.Unmarshal([]byte(i.source), &src); err != nil {
			return fmt.Errorf("source of image %s: %w", i.key, err)
		}
		if src.Provider == bindery.ProviderLocal || i.key == bindery.BuildKey(src, i.generation) {
			continue
		}
		name := i.generation + "-appendix"
		if _, err := tx.ExecContext(ctx, `UPDATE OR IGNORE images SET generation = $1, key = $2 WHERE key = $3`, name, bindery.BuildKey(src, name), i.key); err != nil {
			return err
		}
	}
	return nil
}
