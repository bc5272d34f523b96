package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// A bulk is a statement that inserts any number of rows.
type bulk struct {
	head, tail string
	columns    int
}

// many is the number of rows that a bulk inserts at once while there are so many. The cost of a statement is then that of
// its rows.
const many = 20

// text has nameless parameters: the driver looks for the name of each one, which takes longer the more there are.
func (b bulk) text(rows int) string {
	row := "(?" + strings.Repeat(", ?", b.columns-1) + ")"
	return b.head + row + strings.Repeat(", "+row, rows-1) + " " + b.tail
}

// insert writes rows, whose values follow each other. Each row must change one.
func (w *writer) insert(b bulk, prepared [2]*sql.Stmt, values []any) error {
	for len(values) > 0 {
		n, st := 1, prepared[0]
		if len(values) >= many*b.columns {
			n, st = many, prepared[1]
		}
		res, err := w.exec(st, values[:n*b.columns]...)
		if err != nil {
			return err
		}
		if changed, err := res.RowsAffected(); err != nil || changed != int64(n) {
			return fmt.Errorf("%d rows of %d do not follow what is stored: %w", int64(n)-changed, n, bindery.ErrConflict)
		}
		values = values[n*b.columns:]
	}
	return nil
}

// The first events of a build come with its record, so that a build that is asked for and starts at once is one row
// written once.
var putBegin = bulk{columns: 26, head: `INSERT INTO builds (id, key, source, class, requester, state, attempt, worker, charged, failures, until, created, started,
			ended, result, error, kind, quick, slow, forced, quarantined, disk, evidence, generation, last_seq, read_seq) VALUES `,
	tail: `ON CONFLICT (id) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, worker = excluded.worker,
			charged = excluded.charged, failures = excluded.failures, until = excluded.until,
			started = excluded.started, ended = excluded.ended, result = excluded.result, error = excluded.error,
			class = excluded.class, evidence = excluded.evidence, requester = excluded.requester, kind = excluded.kind, quick = excluded.quick, slow = excluded.slow,
			forced = excluded.forced, quarantined = excluded.quarantined, disk = excluded.disk,
			last_seq = excluded.last_seq, read_seq = excluded.read_seq WHERE builds.last_seq = 0`}

var putEvent = bulk{columns: 6, head: `INSERT INTO events (build, seq, time, phase, message, more) VALUES `}

// writeStories writes the records of builds and their events. Those that begin now are written together.
func (db *DB) writeStories(w *writer, c bindery.Changes) error {
	begins := map[string]int{} // by build: its place among the tails
	for i, t := range c.Tails {
		if len(t.Events) > 0 && t.Events[0].Seq == 1 {
			begins[t.Build] = i
		}
	}
	written := make([]bool, len(c.Tails))
	builds := make([]any, 0, len(begins)*putBegin.columns)
	events := make([]any, 0, len(c.Tails)*putEvent.columns)
	for _, b := range c.Builds {
		i, ok := begins[b.ID]
		if ok {
			written[i] = true
		}
		var err error
		if !ok {
			err = db.writeBuild(w, b)
		} else if builds, err = beginning(builds, b, c.Tails[i]); err == nil {
			events, err = appendEvents(events, c.Tails[i])
		}
		if err != nil {
			return fmt.Errorf("build %s: %w", b.ID, err)
		}
	}
	if err := w.insert(putBegin, db.put.begin, builds); err != nil {
		return fmt.Errorf("new builds: %w", err)
	}
	for i, t := range c.Tails {
		if written[i] || len(t.Events) == 0 {
			continue
		}
		err := db.writeTail(w, t)
		if err == nil {
			events, err = appendEvents(events, t)
		}
		if err != nil {
			return fmt.Errorf("events of %s: %w", t.Build, err)
		}
	}
	if err := w.insert(putEvent, db.put.event, events); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	return nil
}

func (db *DB) writeBuild(w *writer, b bindery.Build) error {
	args, err := record(nil, b)
	if err == nil {
		_, err = w.exec(db.put.build, args...)
	}
	return err
}

// record appends the columns of a build.
func record(to []any, b bindery.Build) ([]any, error) {
	source, err := json.Marshal(b.Source)
	if err != nil {
		return nil, err
	}
	result, err := optional(b.Result)
	if err != nil {
		return nil, err
	}
	fault, err := optional(b.Err)
	return append(to,
		b.ID, b.Key, string(source), string(b.Class), b.Requester, string(b.State), b.Attempt, b.Worker,
		b.Charged, b.Row, micros(b.Until), micros(b.Created), micros(b.Started), micros(b.Ended), result, fault,
		b.Kind, b.Quick, b.Slow, b.Forced, b.Quarantined, b.Disk, b.Evidence, b.Generation), err
}

// beginning appends the columns of a build together with the place that its events reach.
func beginning(to []any, b bindery.Build, t bindery.Tail) ([]any, error) {
	if err := whole(t); err != nil {
		return nil, err
	}
	read := int64(0)
	if t.Attempt == b.Attempt {
		read = t.Read
	}
	to, err := record(to, b)
	return append(to, t.Events[len(t.Events)-1].Seq, read), err
}

// more is the parts of an event that most events do not have.
type more struct {
	Step   *bindery.Step        `json:"step,omitempty"`
	Result *bindery.BuildResult `json:"result,omitempty"`
	Err    *bindery.Error       `json:"error,omitempty"`
	Plan   json.RawMessage      `json:"plan,omitempty"`
}

// writeTail notes how far the events of a build have come.
func (db *DB) writeTail(w *writer, t bindery.Tail) error {
	if err := whole(t); err != nil {
		return err
	}
	first, last := t.Events[0].Seq, t.Events[len(t.Events)-1].Seq
	res, err := w.exec(db.put.tail, t.Build, t.Attempt, t.Read, last, first-1)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("event %d does not follow what is stored: %w", first, bindery.ErrConflict)
	}
	return nil
}

// whole refuses a tail with gaps.
func whole(t bindery.Tail) error {
	first, last := t.Events[0].Seq, t.Events[len(t.Events)-1].Seq
	if last != first+int64(len(t.Events))-1 {
		return fmt.Errorf("%d events from %d to %d have gaps", len(t.Events), first, last)
	}
	return nil
}

// appendEvents appends the columns of events.
func appendEvents(to []any, t bindery.Tail) ([]any, error) {
	for _, e := range t.Events {
		var rest any
		if e.Step != nil || e.Result != nil || e.Err != nil || e.Plan != nil {
			text, err := json.Marshal(more{e.Step, e.Result, e.Err, e.Plan})
			if err != nil {
				return nil, err
			}
			rest = string(text)
		}
		to = append(to, t.Build, e.Seq, micros(e.Time), string(e.Phase), e.Message, rest)
	}
	return to, nil
}
