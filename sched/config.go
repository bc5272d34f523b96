// Package sched decides what runs next, where, what to stop: a pure function of state, time, input.
package sched

import (
	"cmp"
	"time"
)

// Config is the policy's numbers. The zero value of each means its default, and so does one below zero where nothing is
// said of that; docs/queue.md says what turning each does. Shares are of all slots of the workers that are up, and never
// come to less than one slot.
type Config struct {
	// Trying again.
	Attempts int           // a build is tried so often while its failures may pass. default: 3
	Lost     int           // a build may lose so many workers before it is blamed for it. default: 5; negative: none
	Backoff  time.Duration // before the second attempt; doubled for each further one. default: 5 seconds; negative: none
	Remember time.Duration // a failure answers for its key so long; doubled for each further one in a row. default: 30 seconds; negative: it does not
	Longest  time.Duration // of these two, doubled. default: 10 minutes
	Retries  int           // forced retries of a remembered failure until it is forgotten. default: 3; negative: none

	// Sharing slots.
	HalfLife        time.Duration // in which what a flow has used beyond its share is half forgotten. default: 30 minutes; negative: it never is
	RepoShare       float64       // of the slots for one repository while others wait. default: 0.25
	OwnerShare      float64       // of the slots for one owner while others wait. default: 0.5
	RequesterShare  float64       // of the slots for one requester while others wait. default: 0.5
	UnattendedShare float64       // of the slots for unattended builds, always. default: 0.25
	Unattended      float64       // weight of unattended builds, all together, against attended ones' 1. default: 0.005
	Idle            int           // slots that background builds leave idle. default: 1; negative: none

	// Size and time.
	LongAfter time.Duration // a build that runs longer is long. default: 20 minutes; negative: none is
	LongShare float64       // of the slots for long builds, always. default: 0.5
	Quick     int           // quick builds at once, beside the slots. default: 4
	Stall     time.Duration // a build without progress is stopped. default: 20 minutes; negative: never
	MaxAge    time.Duration // an attempt that is older goes on in the slow lane, or is stopped. default: 3 hours; negative: never
	SlowAge   time.Duration // an attempt in the slow lane that is older is stopped. default: 24 hours; negative: never
	Isolate   time.Duration // a quarantined build answers for its key so long. default: 7 days; negative: it does not
	Guess     time.Duration // median cost of a build of which nothing is known. default: 5 minutes
	Disk      int64         // bytes reserved on the worker for such a build. default: 8 GiB; negative: none

	// Leaving.
	Grace   time.Duration // after its last watcher left, before an attended build is dropped. default: 1 minute; negative: never
	Linger  time.Duration // the same of a running one, which others then need to wait for its slot. default: 20 minutes; negative: never
	Popular int           // a running build that had so many watchers at once is not dropped. default: 5

	// Sessions.
	Sessions          int // at once. default: 100; negative: none
	RepoSessions      int // at once of one repository. default: no limit; negative: none
	OwnerSessions     int // at once of one owner. default: no limit; negative: none
	RequesterSessions int // at once of one requester. default: no limit; negative: none
	Places            int // sessions that may wait for a place. default: 10000; negative: none

	Seed uint64 // of the random numbers that forecasts draw
}

// WithDefaults is c with every number that counts.
func (c Config) WithDefaults() Config {
	c.Attempts = above(c.Attempts, 3)
	c.Lost = cmp.Or(c.Lost, 5)
	c.Backoff = cmp.Or(c.Backoff, 5*time.Second)
	c.Remember = cmp.Or(c.Remember, 30*time.Second)
	c.Longest = above(c.Longest, 10*time.Minute)
	c.Retries = cmp.Or(c.Retries, 3)

	c.HalfLife = cmp.Or(c.HalfLife, 30*time.Minute)
	c.RepoShare = above(c.RepoShare, 0.25)
	c.OwnerShare = above(c.OwnerShare, 0.5)
	c.RequesterShare = above(c.RequesterShare, 0.5)
	c.UnattendedShare = above(c.UnattendedShare, 0.25)
	c.Unattended = above(c.Unattended, 0.005)
	c.Idle = cmp.Or(c.Idle, 1)

	c.LongAfter = cmp.Or(c.LongAfter, 20*time.Minute)
	c.LongShare = above(c.LongShare, 0.5)
	c.Quick = above(c.Quick, 4)
	c.Stall = cmp.Or(c.Stall, 20*time.Minute)
	c.MaxAge = cmp.Or(c.MaxAge, 3*time.Hour)
	c.SlowAge = cmp.Or(c.SlowAge, 24*time.Hour)
	c.Isolate = cmp.Or(c.Isolate, 7*24*time.Hour)
	c.Guess = above(c.Guess, 5*time.Minute)
	c.Disk = cmp.Or(c.Disk, 8<<30)

	c.Grace = cmp.Or(c.Grace, time.Minute)
	c.Linger = cmp.Or(c.Linger, 20*time.Minute)
	c.Popular = above(c.Popular, 5)

	c.Sessions = cmp.Or(c.Sessions, 100)
	c.Places = cmp.Or(c.Places, 10_000)
	return c
}

// above is n, which cannot be turned off, or its default.
func above[T int | float64 | time.Duration](n, otherwise T) T {
	if n > 0 {
		return n
	}
	return otherwise
}

// doubled is first, doubled n times, at most longest; nothing if first is turned off.
func doubled(first time.Duration, n int, longest time.Duration) time.Duration {
	d := max(first, 0)
	for range n {
		if d >= longest {
			break
		}
		d *= 2
	}
	return min(d, longest)
}

// part is a share of n slots, at least one of them.
func part(share float64, n int) int { return max(1, int(share*float64(n)+1e-9)) }
