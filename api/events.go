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
	for data, err := range ReadStream(resp.Body) {
		if err != nil {
			return after, false, bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Ask again.", "The hub closed the stream of events").Because(err)
		}
		var e bindery.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
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
	return after, true, nil // the hub ends the stream only when the build is over
}

func again(err error) bool { return errors.Is(err, bindery.ErrUnreachable) }

// ReadStream yields the data of each event of an event stream. Its end is the end of the sequence when the stream was
// closed in order, else an error is yielded last.
func ReadStream(r io.Reader) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxEventLine)
		var data []string
		for lines.Scan() {
			line := strings.TrimSuffix(lines.Text(), "\r")
			field, value, _ := strings.Cut(line, ":")
			switch {
			case line == "" && data != nil:
				if !yield(strings.Join(data, "\n"), nil) {
					return
				}
				data = nil
			case field == "data":
				data = append(data, strings.TrimPrefix(value, " "))
			}
		}
		if err := lines.Err(); err != nil {
			yield("", err)
		}
	}
}
