package sim

import (
	"cmp"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"
)

// A Law says how long things take and how often they fail, how long visitors stay. None of it is public about real
// hubs but for what docs/incident-replay.md derives: the numbers are assumptions. The zero value of each means its
// default.
type Law struct {
	BuildMedian time.Duration // of a log-normal law. default: 6 minutes
	BuildSigma  float64       // of its logarithm. default: 0.8
	BuildMost   time.Duration // default: 90 minutes
	BuildVary   float64       // sigma of the logarithm between two builds of one spec: what a hub knows of the past. default: 0.3
	Slow        float64       // share of specs whose build takes a third of BuildMost to all of it. default: 0.01; negative: none

	Bytes      int64   // median of what a build takes on its worker's disk, of a log-normal law. default: 3 GiB
	Contention float64 // while another build runs on its worker a build takes longer by this share, for each of them. default: 0

	Failing float64       // share of specs that cannot be built: the repository's fault. default: 0
	Passing float64       // share of attempts that fail for a reason that passes. default: 0
	Crash   time.Duration // mean time between crashes of one worker. default: 0, never

	Patience time.Duration // median of a log-normal law: how long a visitor waits. default: 45 minutes
	Restless float64       // sigma of its logarithm. default: 0.8
	Return   float64       // share of those who left or were refused that try again. default: 0.7; negative: none
	Pause    time.Duration // mean, before trying again. default: 8 minutes

	Stay         time.Duration // median of a log-normal law: how long a visitor uses a session. default: 10 minutes
	LaunchMedian time.Duration // from a built image to a running session. default: 8 seconds
	Fill         time.Duration // a worker without scratch space fails a build after at most this. default: 10 minutes
}

func (l Law) withDefaults() Law {
	l.BuildMedian = cmp.Or(l.BuildMedian, 6*time.Minute)
	l.BuildSigma = cmp.Or(l.BuildSigma, 0.8)
	l.BuildMost = cmp.Or(l.BuildMost, 90*time.Minute)
	l.Bytes = cmp.Or(l.Bytes, 3<<30)
	l.BuildVary = cmp.Or(l.BuildVary, 0.3)
	l.Slow = cmp.Or(l.Slow, 0.01)
	l.Patience = cmp.Or(l.Patience, 45*time.Minute)
	l.Restless = cmp.Or(l.Restless, 0.8)
	l.Return = cmp.Or(l.Return, 0.7)
	l.Pause = cmp.Or(l.Pause, 8*time.Minute)
	l.Stay = cmp.Or(l.Stay, 10*time.Minute)
	l.LaunchMedian = cmp.Or(l.LaunchMedian, 8*time.Second)
	l.Fill = cmp.Or(l.Fill, 10*time.Minute)
	return l
}

// chance draws from the law. Every draw is a function of the seed and of what it is about, not of the order of events:
// so two policies meet the same builds and the same visitors.
type chance struct {
	seed uint64
	law  Law
}

func (c chance) about(what string, a, b int) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(what))
	x := mix(c.seed ^ h.Sum64())
	x = mix(x + uint64(a))
	return rand.New(rand.NewPCG(x, mix(x+uint64(b))))
}

// mix is the finaliser of splitmix64: near inputs give far outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func lognormal(r *rand.Rand, median time.Duration, sigma float64) time.Duration {
	return time.Duration(float64(median) * math.Exp(sigma*r.NormFloat64()))
}

func exponential(r *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(float64(mean) * r.ExpFloat64())
}

// build is how long a spec's build takes on a good worker.
func (c chance) build(spec int) time.Duration {
	r := c.about("build", spec, 0)
	if r.Float64() < c.law.Slow {
		return time.Duration(float64(c.law.BuildMost) * (1 + 2*r.Float64()) / 3)
	}
	return max(time.Second, min(c.law.BuildMost, lognormal(r, c.law.BuildMedian, c.law.BuildSigma)))
}

// earlier is how long a build of a spec took some time before the window.
func (c chance) earlier(spec int) time.Duration {
	return lognormal(c.about("earlier", spec, 0), c.build(spec), c.law.BuildVary)
}

// disk is how much a build of a spec takes on its worker's disk.
func (c chance) disk(spec int) int64 {
	return int64(float64(c.law.Bytes) * math.Exp(0.7*c.about("disk", spec, 0).NormFloat64()))
}

// broken says that a spec cannot be built, and after which share of its build that shows.
func (c chance) broken(spec int) (share float64, broken bool) {
	r := c.about("broken", spec, 0)
	return 0.1 + 0.9*r.Float64(), r.Float64() < c.law.Failing
}

// passing says that an attempt fails for a reason that passes, and after which share of it.
func (c chance) passing(spec, attempt int) (share float64, fails bool) {
	r := c.about("passing", spec, attempt)
	return r.Float64(), r.Float64() < c.law.Passing
}

// full is after how long an attempt fills a worker without scratch space.
func (c chance) full(spec, attempt int) time.Duration {
	return time.Second + time.Duration(c.about("full", spec, attempt).Float64()*float64(c.law.Fill))
}

func (c chance) patience(visitor, try int) time.Duration {
	return lognormal(c.about("patience", visitor, try), c.law.Patience, c.law.Restless)
}

// again says whether a visitor tries again, and after which pause.
func (c chance) again(visitor, try int) (time.Duration, bool) {
	r := c.about("again", visitor, try)
	return exponential(r, c.law.Pause), r.Float64() < c.law.Return
}

// stay is how long a visitor uses a session.
func (c chance) stay(visitor int) time.Duration {
	return lognormal(c.about("stay", visitor, 0), c.law.Stay, 1)
}

func (c chance) launch(visitor int) time.Duration {
	return lognormal(c.about("launch", visitor, 0), c.law.LaunchMedian, 0.6)
}
