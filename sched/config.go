// Package sched decides what runs next, where, what to stop: a pure function of state, time, input.
package sched

import "time"

// Config is the policy's numbers. The zero value of each means its default.
type Config struct {
	Attempts int           // a build is tried so often while its failures may pass. default: 3
	Lost     int           // a build may lose so many workers before it is blamed for it. default: 5
	Backoff  time.Duration // before the second attempt; doubled for each further one. default: 5 seconds
	Remember time.Duration // a failure answers for its key so long; doubled for each further one in a row. default: 30 seconds
	Longest  time.Duration // that a failure is remembered. default: 10 minutes
	Sessions int           // at once. default: 100; negative: none
}
