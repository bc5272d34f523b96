package sched

import (
	"math"
	"time"
)

// A law is what is known of the costs of some builds: the mean, the variance of the logarithm of seconds. Old builds
// count less once there are many.
type law struct {
	n        float64
	mean     float64
	variance float64
	disk     int64 // most bytes that one took lately
}

func (l *law) learn(cost time.Duration, most float64) {
	x := math.Log(max(cost.Seconds(), 0.1))
	l.n = min(l.n+1, most)
	d := x - l.mean
	l.mean += d / l.n
	l.variance += (d*(x-l.mean) - l.variance) / l.n
}

// joined is what l says where it knows much, what is known of more general cases where it knows little: of the mean as
// much as one build says, of the variance as much as weight builds.
func (l *law) joined(general law, weight float64) law {
	if l == nil || l.n == 0 {
		return general
	}
	d := l.mean - general.mean
	return law{
		n: l.n, disk: max(l.disk, 0), mean: (l.n*l.mean + general.mean) / (l.n + 1),
		variance: (l.n*l.variance + weight*general.variance + l.n/(l.n+1)*d*d) / (l.n + weight),
	}
}

// costs remembers what builds of each repository, of each kind of plan, of all kinds took.
type costs struct {
	repos map[string]*law
	kinds map[string]*law
	all   law
	most  float64  // seconds that one took lately
	order []string // repositories, oldest first, so that their number is bounded
}

const (
	mostRepos = 20_000
	mostKinds = 200
)

func (c *costs) learn(repo, kind string, cost time.Duration, disk int64) {
	c.all.learn(cost, 500)
	c.most = max(cost.Seconds(), 0.99*c.most)
	if l := c.kinds[kind]; l != nil || kind != "" && len(c.kinds) < mostKinds {
		if l == nil {
			l = &law{}
			c.kinds[kind] = l
		}
		l.learn(cost, 100)
	}
	l := c.repos[repo]
	if l == nil {
		if len(c.order) >= mostRepos {
			delete(c.repos, c.order[0])
			c.order = c.order[1:]
		}
		l = &law{}
		c.repos[repo] = l
		c.order = append(c.order, repo)
	}
	l.learn(cost, 12)
	if disk > 0 {
		l.disk = max(disk, l.disk*3/4)
	}
}

// An Estimate is what a build will cost, in slot-seconds: a log-normal law.
type Estimate struct {
	Mean, Sigma float64 // of the logarithm
	Most        float64 // seconds that it will take at most; 0: nobody knows
	Known       bool    // from builds of the same repository
}

// Quantile is the cost that a share p of such builds does not exceed.
func (e Estimate) Quantile(p float64) time.Duration {
	return e.bounded(math.Exp(e.Mean + e.Sigma*math.Sqrt2*math.Erfinv(2*p-1)))
}

// Expected is the mean cost.
func (e Estimate) Expected() time.Duration {
	return e.bounded(math.Exp(e.Mean + e.Sigma*e.Sigma/2))
}

func (e Estimate) bounded(x float64) time.Duration {
	if e.Most > 0 {
		x = min(x, e.Most)
	}
	return seconds(x)
}

// rest draws how much longer such a build runs that has run for so long; u is uniform in (0,1).
func (e Estimate) rest(ran time.Duration, u float64) time.Duration {
	if ran > 0 {
		z := (math.Log(ran.Seconds()) - e.Mean) / e.Sigma
		done := 0.5 * (1 + math.Erf(z/math.Sqrt2))
		if done > 0.999 {
			return seconds(ran.Seconds() * 0.5 * u * 2) // it outran every expectation: as long again, about
		}
		u = done + (1-done)*u
	}
	if e.Most > 0 {
		e.Most = max(e.Most, 2*ran.Seconds()) // what was thought the most says little of one that comes near to it
	}
	return max(e.Quantile(u)-ran, time.Millisecond)
}

func seconds(x float64) time.Duration { return time.Duration(min(x, 1e7) * float64(time.Second)) }

// Estimate says what a build of a repository, of a kind of plan, will cost.
func (s *Scheduler) Estimate(repo, kind string) Estimate {
	prior := law{mean: math.Log(s.cfg.Guess.Seconds()), variance: 1}
	all := s.costs.all.joined(prior, 10)
	l := s.costs.kinds[kind].joined(all, 5)
	own := s.costs.repos[repo]
	if own == nil || own.n == 0 {
		// A few builds that are not alike make a law with a tail of days: three times the longest is enough.
		return Estimate{Mean: l.mean, Sigma: math.Sqrt(max(l.variance, 0.01)), Most: 3 * max(s.costs.most, s.cfg.Guess.Seconds())}
	}
	// Builds of one repository are much alike: a few of them say more than all the others.
	l.variance = 0.16
	mean := (own.n*own.mean + 0.25*l.mean) / (own.n + 0.25)
	variance := (own.n*own.variance + 2*l.variance) / (own.n + 2)
	return Estimate{Mean: mean, Sigma: math.Sqrt(max(variance, 0.01)), Known: true}
}

func (s *Scheduler) diskOf(repo string) int64 {
	if l := s.costs.repos[repo]; l != nil && l.disk > 0 {
		return l.disk
	}
	return max(s.cfg.Disk, 0)
}
