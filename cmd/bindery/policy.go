package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// A queueConfig is what an operator may turn of the queue's numbers, under the names that sched.Config has for them.
// What is not said is nil. docs/queue.md says what turning each does; a test compares the two.
type queueConfig struct {
	Attempts *int           `yaml:"attempts"`
	Lost     *int           `yaml:"lost"`
	Backoff  *time.Duration `yaml:"backoff"`
	Remember *time.Duration `yaml:"remember"`
	Longest  *time.Duration `yaml:"longest"`
	Retries  *int           `yaml:"retries"`

	HalfLife        *time.Duration `yaml:"half_life"`
	RepoShare       *float64       `yaml:"repo_share"`
	OwnerShare      *float64       `yaml:"owner_share"`
	RequesterShare  *float64       `yaml:"requester_share"`
	UnattendedShare *float64       `yaml:"unattended_share"`
	Unattended      *float64       `yaml:"unattended"`
	Idle            *int           `yaml:"idle"`

	LongAfter *time.Duration `yaml:"long_after"`
	LongShare *float64       `yaml:"long_share"`
	Quick     *int           `yaml:"quick"`
	Stall     *time.Duration `yaml:"stall"`
	MaxAge    *time.Duration `yaml:"max_age"`
	SlowAge   *time.Duration `yaml:"slow_age"`
	Isolate   *time.Duration `yaml:"isolate"`
	Guess     *time.Duration `yaml:"guess"`
	Disk      *size          `yaml:"disk"`

	Grace   *time.Duration `yaml:"grace"`
	Linger  *time.Duration `yaml:"linger"`
	Popular *int           `yaml:"popular"`

	OwnerSessions     *int `yaml:"owner_sessions"`
	RequesterSessions *int `yaml:"requester_sessions"`
}

// The largest numbers that are no slip of the pen.
const (
	many     = 1_000_000
	year     = 365 * 24 * time.Hour
	mostDisk = size(1) << 50
)

// policy is what the hub's queue goes by, and the simulator's.
func (c config) policy() (sched.Config, error) {
	p := sched.Config{Sessions: c.Sessions.Max, Places: c.Sessions.Places}
	err := c.Queue.turn(&p)
	return p, err
}

// turn sets the numbers that the file says.
func (c queueConfig) turn(p *sched.Config) error {
	var disk size
	err := errors.Join(
		turn("attempts", c.Attempts, &p.Attempts, 1, many),
		turn("lost", c.Lost, &p.Lost, 0, many),
		turn("backoff", c.Backoff, &p.Backoff, 0, year),
		turn("remember", c.Remember, &p.Remember, 0, year),
		turn("longest", c.Longest, &p.Longest, time.Second, year),
		turn("retries", c.Retries, &p.Retries, 0, many),

		turn("half_life", c.HalfLife, &p.HalfLife, time.Minute, year),
		turn("repo_share", c.RepoShare, &p.RepoShare, leastShare, 1),
		turn("owner_share", c.OwnerShare, &p.OwnerShare, leastShare, 1),
		turn("requester_share", c.RequesterShare, &p.RequesterShare, leastShare, 1),
		turn("unattended_share", c.UnattendedShare, &p.UnattendedShare, leastShare, 1),
		turn("unattended", c.Unattended, &p.Unattended, leastShare, 1),
		turn("idle", c.Idle, &p.Idle, 0, many),

		limit("long_after", c.LongAfter, &p.LongAfter),
		turn("long_share", c.LongShare, &p.LongShare, leastShare, 1),
		turn("quick", c.Quick, &p.Quick, 1, many),
		limit("stall", c.Stall, &p.Stall),
		limit("max_age", c.MaxAge, &p.MaxAge),
		limit("slow_age", c.SlowAge, &p.SlowAge),
		turn("isolate", c.Isolate, &p.Isolate, 0, year),
		turn("guess", c.Guess, &p.Guess, time.Second, year),
		turn("disk", c.Disk, &disk, 0, mostDisk),

		limit("grace", c.Grace, &p.Grace),
		limit("linger", c.Linger, &p.Linger),
		turn("popular", c.Popular, &p.Popular, 1, many),

		turn("owner_sessions", c.OwnerSessions, &p.OwnerSessions, 1, many),
		turn("requester_sessions", c.RequesterSessions, &p.RequesterSessions, 1, many),
	)
	p.Disk = int64(disk)
	if err != nil {
		return err
	}
	return agree(p.WithDefaults())
}

// agree refuses numbers of which one undoes what another says.
func agree(p sched.Config) error {
	switch {
	case p.SlowAge > 0 && p.MaxAge > p.SlowAge:
		return fmt.Errorf("queue.max_age: %s is more than queue.slow_age (%s), so that the slow lane would stop what it is for: raise both", plainly(p.MaxAge), plainly(p.SlowAge))
	case p.Backoff > p.Longest:
		return fmt.Errorf("queue.backoff: %s is more than queue.longest (%s), which bounds it: raise both", plainly(p.Backoff), plainly(p.Longest))
	case p.Remember > p.Longest:
		return fmt.Errorf("queue.remember: %s is more than queue.longest (%s), which bounds it: raise both", plainly(p.Remember), plainly(p.Longest))
	}
	return nil
}

// leastShare is the least that shares and weights come to.
const leastShare = 0.0001

// turn sets a number that the file says. The queue takes 0 for what is not said: what may be 0 is turned off there by
// what is below.
func turn[T int | size | float64 | time.Duration](key string, said, to *T, least, most T) error {
	if said == nil {
		return nil
	}
	if !(*said >= least && *said <= most) { // nor what is no number
		return fmt.Errorf("queue.%s: %v is out of range: give %v to %v", key, plainly(*said), plainly(least), plainly(most))
	}
	if *to = *said; *to == 0 {
		*to = -1
	}
	return nil
}

// limit sets a time after which something happens, or never when it is below zero. Zero could mean both.
func limit(key string, said, to *time.Duration) error {
	switch {
	case said == nil:
		return nil
	case *said < 0:
		*to = -1
		return nil
	case *said == 0:
		return fmt.Errorf("queue.%s: 0s is neither a time nor never: give 1s to %s, or -1s for never", key, plainly(year))
	}
	return turn(key, said, to, time.Second, year)
}

// plainly writes a duration as it is written in the file, and what is none as it is.
func plainly(v any) any {
	d, ok := v.(time.Duration)
	if !ok {
		return v
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if short, ok := strings.CutSuffix(text, zero); ok {
			text = short + zero[:1]
		}
	}
	return text
}
