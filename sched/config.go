// Package sched decides what runs next, where, what to stop: a pure function of state, time, input.
package sched

import (
	"cmp"
	"time"
)

// Config is the policy's numbers. The zero value of each means its default.
type Config struct {
	Attempts int           // a build is tried so often while its failures may pass. default: 3
	Lost     int           // a build may lose so many workers before it is blamed for it. default: 5
	Backoff  time.Duration // before the second attempt; doubled for each further one. default: 5 seconds
	Remember time.Duration // a failure answers for its key so long; doubled for each further one in a row. default: 30 seconds
	Longest  time.Duration // that a failure is remembered. default: 10 minutes
	Sessions int           // at once. default: 100; negative: none
}

func (c Config) withDefaults() Config {
	c.Attempts = cmp.Or(c.Attempts, 3)
	c.Lost = cmp.Or(c.Lost, 5)
	c.Backoff = cmp.Or(c.Backoff, 5*time.Second)
	c.Remember = cmp.Or(c.Remember, 30*time.Second)
	c.Longest = cmp.Or(c.Longest, 10*time.Minute)
	c.Sessions = cmp.Or(c.Sessions, 100)
	return c
}

// doubled is first, doubled n times, at most longest.
func doubled(first time.Duration, n int, longest time.Duration) time.Duration {
	d := first
	for range n {
		if d >= longest {
			break
		}
		d *= 2
	}
	return min(d, longest)
}
