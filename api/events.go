package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

const (
	maxEventLine = 4 << 20         // longer lines are not ours
	reconnects   = 30              // in a row without one event between them
	reconnectGap = 1 * time.Second // a hub that restarts is back after one or two
)

// Events yields the events of a build after the numbered one, first those that have happened, then live ones, until
// the last. A connection that breaks is made again from where it broke; an error is the last thing yielded.
func (c *Client) Events(ctx context.Context, id string, after int64) iter.Seq2[bindery.Event, error] {
	return func(yield func(bindery.Event, error) bool) {
		for tries := 0; ; tries++ {
			last, stop, err := c.eventsOnce(ctx, id, after, yield)
			if stop {
				return
			}
			if last > after {
				after, tries = last, 0
			}
			if !again(err) || tries >= reconnects {
				yield(bindery.Event{}, err)
				return
			}
			select {
			case <-ctx.Done():
				yield(bindery.Event{}, ctx.Err())
				return
			case <-time.After(reconnectGap):
			}
		}
	}
}

// eventsOnce reads one connection. It returns the number of the last event yielded, whether to stop, and why not.
func (c *Client) eventsOnce(ctx context.Context, id string, after int64, yield func(bindery.Event, error) bool) (int64, bool, error) {
	h := http.Header{"Accept": {"text/event-stream"}, "Last-Event-Id": {strconv.FormatInt(after, 10)}}
	resp, err := c.do(ctx, "GET", "/api/v1/builds/"+url.PathEscape(id)+"/events", nil, h)
	if err != nil {
		return after, false, err
	}
	defer resp.Body.Close()
	broken := bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Ask again.", "The hub closed the stream of events")
	for m, err := range ReadStream(resp.Body) {
		if err != nil {
			return after, false, broken.Because(err)
		}
		if m.Event == EndOfStream {
			return after, true, nil
		}
		if m.Event != "" {
			continue // beside the build's own story
		}
		var e bindery.Event
		if err := json.Unmarshal([]byte(m.Data), &e); err != nil {
			return after, false, fmt.Errorf("read an event: %w", err)
		}
		if e.Seq <= after {
			continue
		}
		after = e.Seq
		if !yield(e, nil) || e.Last() {
			return after, true, nil
		}
	}
	return after, false, broken
}

func again(err error) bool { return errors.Is(err, bindery.ErrUnreachable) }

// EndOfStream is the event that says that no more will come. A stream that closes without it was cut.
const EndOfStream = "end"

// StandingEvent is the type of the events, without a number, that say where the build stands: each is a bindery.Standing.
const StandingEvent = "standing"

// A Message is one event of an event stream as it was sent.
type Message struct {
	Event string // its type; empty for the ordinary ones
	ID    string
	Data  string
}

// ReadStream yields the messages of an event stream. An error is yielded last.
func ReadStream(r io.Reader) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxEventLine)
		var m Message
		var data []string
		for lines.Scan() {
			line := strings.TrimSuffix(lines.Text(), "\r")
			field, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case line == "" && data != nil:
				m.Data = strings.Join(data, "\n")
				if !yield(m, nil) {
					return
				}
				m, data = Message{}, nil
			case field == "data":
				data = append(data, value)
			case field == "id":
				m.ID = value
			case field == "event":
				m.Event = value
			}
		}
		if err := lines.Err(); err != nil {
			yield(Message{}, err)
		}
	}
}
