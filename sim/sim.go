package sim

import (
	"cmp"
	"context"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// The policies that can be compared.
const (
	Fair     = "fair"     // package sched
	FIFO     = "fifo"     // one record per build, first come first served
	Pool2019 = "pool2019" // BinderHub's thread pool; builds are killed after four hours
	PoolNow  = "poolnow"  // the same, killed after one hour
	Alone    = "alone"    // every build starts at once: the measure of what can be served at all
)

// Policies lists the names of all policies.
func Policies() []string { return []string{Fair, FIFO, Pool2019, PoolNow, Alone} }

// Config describes a simulation.
type Config struct {
	Workload *Workload // required
	Policies []string  // required
	Seed     uint64

	Slots     int                      // that builds share. default: 8
	Workers   int                      // that the slots are spread over. default: one for two slots
	Frontends int                      // of a thread pool. default: 2
	Threads   int                      // a thread pool's limit of builds for each front end. default: 32
	Cluster   int                      // nodes that a thread pool's builds are put on. default: 6
	Wipe      time.Time                // when every image is gone; zero: never
	Old       bool                     // images of the old generation serve until the new ones are there; thread pools cannot
	Costs     map[string]time.Duration // how long builds of a repository take, whatever the law says
	Law       Law
	Scratch   int // more workers, without scratch space: no build can finish there

	Stop time.Duration // that a worker takes to stop a build
	Disk int64         // bytes for builds on each worker; 0: enough

	Upgrade *Upgrade // of the fair queue; nil: none

	Foretold  Foresight // of fair
	Mute      bool      // nobody asks when a build will start: several times as fast
	Autoscale Autoscale

	// Sessions. Of the other policies everybody has a place.
	Places int           // of the fair queue, at once; its quotas are in Sched. default: as many as anybody wants
	Idle   time.Duration // a session is stopped when nobody has used it for so long. default: 10 minutes
	Age    time.Duration // when it is older. default: 6 hours

	Sched sched.Config // the policy's numbers

	Look func(now time.Time, v sched.View) // sees the fair queue every minute, as a scrape does. default: nobody looks

	Now func() time.Time // measures how long a simulation takes; default: not measured
}

// Foresight is what fair is told of builds besides what a hub knows that has been there before. Who will come is never told.
type Foresight int

const (
	ForetoldNothing Foresight = iota
	ForetoldLaw               // the law that costs are drawn from, though not what is drawn: nobody who has to guess can know more
	ForetoldCosts             // what each build will take, to a tenth
)

// Autoscale adds workers of two slots while builds wait. The zero value adds none.
type Autoscale struct {
	Most  int           // slots, those that are always there included
	Delay time.Duration // from the wish to a ready worker. default: 4 minutes
	Idle  time.Duration // that an added worker is kept without a build. default: 10 minutes
}

func (c Config) withDefaults() (Config, error) {
	if c.Workload == nil || len(c.Policies) == 0 {
		return c, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name a policy and a workload.", "There is nothing to simulate")
	}
	c.Slots = cmp.Or(c.Slots, 8)
	c.Workers = cmp.Or(c.Workers, (c.Slots+1)/2)
	c.Frontends = cmp.Or(c.Frontends, 2)
	c.Threads = cmp.Or(c.Threads, 32)
	c.Cluster = cmp.Or(c.Cluster, 6)
	c.Autoscale.Delay = cmp.Or(c.Autoscale.Delay, 4*time.Minute)
	c.Autoscale.Idle = cmp.Or(c.Autoscale.Idle, 10*time.Minute)
	c.Idle = cmp.Or(c.Idle, 10*time.Minute)
	c.Age = cmp.Or(c.Age, 6*time.Hour)
	c.Law = c.Law.withDefaults()
	if c.Upgrade != nil {
		c.Workload = c.Upgrade.withImages(c.Workload)
	}
	if c.Slots < 1 || c.Frontends < 1 || c.Workers < 1 || c.Workers > c.Slots || c.Threads < 1 || c.Scratch < 0 {
		return c, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give at least one slot, worker and front end, and no more workers than slots.",
			"A machine room of %d slots, %d workers and %d front ends cannot be", c.Slots, c.Workers, c.Frontends)
	}
	for repo := range c.Costs {
		if !c.Workload.has(repo) {
			return c, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name it as provider/owner/repository, like gh/jupyterlab/jupyterlab-demo.",
				"Nobody asks for %s in this window", bindery.Printable(repo))
		}
	}
	return c, nil
}

func (w *Workload) has(repo string) bool {
	for i := range w.Specs {
		if w.Specs[i].is(repo) {
			return true
		}
	}
	return false
}

// is reports whether s is of a repository, or the spec itself.
func (s *Spec) is(name string) bool {
	return strings.EqualFold(s.Repo, name) || strings.EqualFold(s.Name, name)
}

// Run simulates the workload once for each policy.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	rep := newReport(cfg)
	alone, err := simulate(ctx, cfg, Alone)
	if err != nil {
		return nil, err
	}
	for _, name := range cfg.Policies {
		var began time.Time
		if cfg.Now != nil {
			began = cfg.Now()
		}
		r, err := simulate(ctx, cfg, name)
		if err != nil {
			return nil, err
		}
		result := r.result(alone)
		if cfg.Now != nil {
			result.Seconds = cfg.Now().Sub(began).Seconds()
		}
		rep.Policies[name] = result
	}
	return rep, nil
}

func simulate(ctx context.Context, cfg Config, name string) (*room, error) {
	r := newRoom(cfg)
	switch name {
	case Fair:
		r.policy = newFair(r)
	case FIFO:
		r.policy = newFIFO(r)
	case Pool2019:
		r.policy = newPool(r, 4*time.Hour)
	case PoolNow:
		r.policy = newPool(r, time.Hour)
	case Alone:
		r.policy = newAlone(r)
	default:
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "The policies are "+strings.Join(Policies(), ", ")+".",
			"There is no policy %q", bindery.Printable(name))
	}
	return r, r.run(ctx)
}
