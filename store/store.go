// Package store keeps builds, events, known images, sessions in SQLite.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the driver

	bindery "github.com/bindery-hub/bindery"
)

// Config configures a DB.
type Config struct {
	Path string           // of the database file; made if it is not there. required
	Now  func() time.Time // default: time.Now

	// Fault is asked before each statement that writes, and before each commit: what it returns is what happens instead.
	// It is there for tests of those who use a store. default: nothing goes wrong
	Fault func() error
}

// A DB is an open database. One transaction writes at a time; readers do not wait for it.
type DB struct {
	cfg   Config
	write *sql.DB // one connection
	read  *sql.DB
	put   statements
	known *sql.Stmt    // asked for every submission
	epoch atomic.Int64 // of our lease; 0: we have none, and nobody is asked
}

// Pragmas are in the name of the data source, so that every connection of the pool has them. Each commit is on the
// disk before it is acknowledged: that is what synchronous=FULL means with a write-ahead log.
func dsn(path string, readOnly bool) string {
	q := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "temp_store(MEMORY)"}}
	if !readOnly {
		// The one that writes goes to and fro in the indexes: up to 32 MiB of pages, and a log of some 16 MiB.
		q["_pragma"] = append(q["_pragma"], "cache_size(-32768)", "wal_autocheckpoint(4000)")
	}
	q.Set("_txlock", "immediate")
	if readOnly {
		q.Add("_pragma", "query_only(1)")
		q.Set("_txlock", "deferred")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// Open opens the database and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Path == "" {
		return nil, errors.New("store: Config.Path is required")
	}
	if cfg.Fault == nil {
		cfg.Fault = func() error { return nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	// SQLite would make the file readable for all.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	_ = f.Close() // nothing was written
	db := &DB{cfg: cfg}
	if db.write, err = sql.Open("sqlite", dsn(path, false)); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db.write.SetMaxOpenConns(1)
	if db.read, err = sql.Open("sqlite", dsn(path, true)); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), db.write.Close())
	}
	db.read.SetMaxOpenConns(4)
	if err := db.prepare(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (db *DB) prepare(ctx context.Context) error {
	if err := migrate(ctx, db.write, db.cfg.Now); err != nil {
		return err
	}
	for text, st := range db.put.all() {
		var err error
		if *st, err = db.write.PrepareContext(ctx, text); err != nil {
			return fmt.Errorf("prepare %q: %w", text, err)
		}
	}
	var err error
	db.known, err = db.read.PrepareContext(ctx, `SELECT build, result, proven FROM images WHERE key = $1`)
	return err
}

// Close closes the database.
func (db *DB) Close() error {
	return errors.Join(db.read.Close(), db.write.Close())
}

// micros is how times are stored: microseconds in UTC, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// notFound says what is not there.
func notFound(err error, what, id string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return bindery.Errorf(bindery.ErrNotFound, bindery.User, "Check the name; it may have been removed.", "There is no %s %q", what, bindery.Printable(id))
	}
	return fmt.Errorf("read %s %s: %w", what, id, err)
}
