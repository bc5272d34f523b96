package store

import (
	"database/sql"
	"testing"
)

// Pragma returns a pragma as each of the connections of db has it.
func Pragma(t *testing.T, db *DB, name string) (out []string) {
	for _, pool := range []*sql.DB{db.write, db.read, db.read, db.read} {
		c, err := pool.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		var v string
		if err := c.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}
