package sim

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"sort"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Demand describes a generated workload. The zero value of each means its default: the figures of a large public hub
// in March 2019.
type Demand struct {
	From time.Time     // default: Sunday 2019-03-17 08:00 UTC
	For  time.Duration // default: 24 hours
	Seed uint64

	Scale      float64   // of the hour-of-week rates. default: 1
	Heads      []float64 // shares of the few most wanted specs. default: 0.45, 0.13
	Zipf       float64   // exponent of the rest. default: 1.1
	Specs      int       // of the rest. default: 600
	Strangers  float64   // specs a day that the hub has never seen. default: 100; negative: none
	Bursts     float64   // classes a day: one spec, ten minutes, one address. default: 11.8; negative: none
	Unattended float64   // scripts and bots, for each person. default: 0
	Crawl      float64   // share of their launches that are of repositories that nobody launched before. default: 0
}

func (d Demand) withDefaults() Demand {
	if d.From.IsZero() {
		d.From = time.Date(2019, 3, 17, 8, 0, 0, 0, time.UTC)
	}
	d.For = cmp.Or(d.For, 24*time.Hour)
	d.Scale = cmp.Or(d.Scale, 1)
	if d.Heads == nil {
		d.Heads = []float64{0.45, 0.13}
	}
	d.Zipf = cmp.Or(d.Zipf, 1.1)
	d.Specs = cmp.Or(d.Specs, 600)
	d.Strangers = cmp.Or(d.Strangers, 100)
	d.Bursts = cmp.Or(d.Bursts, 11.8)
	return d
}

// Launches an hour of the day, UTC, on weekdays and at weekends.
const (
	weekdays = "419 429 501 506 423 519 714 730 808 878 798 802 881 994 1040 934 828 803 711 693 618 525 490 409"
	weekends = "261 250 272 263 263 327 341 317 298 326 322 346 362 437 469 432 462 422 417 396 368 349 304 255"
)

func hourly(s string) (rates [24]float64) {
	for i, word := range strings.Fields(s) {
		rates[i], _ = strconv.ParseFloat(word, 64) // the two constants above are numbers
	}
	return rates
}

// heads are the names of the most wanted repositories. What is asked of a recorded day about them can be asked of a
// generated one.
var heads = [...]string{"gh/ipython/ipython-in-depth", "gh/jupyterlab/jupyterlab-demo"}

// Generate makes demand of the shape of a public hub: two heads, then Zipf; rates by hour of the week; bursts.
func Generate(d Demand) *Workload {
	d = d.withDefaults()
	g := &generator{d: d, rnd: rand.New(rand.NewPCG(mix(d.Seed), mix(d.Seed+1))), ids: map[int]int{}}
	g.w = &Workload{Name: "generated launches", From: d.From.UTC(), For: d.For}
	g.cumulate()
	g.people()
	g.classes()
	g.strangers()
	g.bots()
	g.w.sort()
	return g.w
}

type generator struct {
	d    Demand
	w    *Workload
	rnd  *rand.Rand
	tail []float64   // cumulated shares of the rest
	ids  map[int]int // rank -> spec of the workload
}

func (g *generator) cumulate() {
	g.tail = make([]float64, g.d.Specs)
	sum := 0.0
	for i := range g.tail {
		sum += math.Pow(float64(i+1), -g.d.Zipf)
		g.tail[i] = sum
	}
}

// spec returns the spec of a rank. Four ranks are one owner's: some owners have several repositories.
func (g *generator) spec(rank int) int {
	id, ok := g.ids[rank]
	if !ok {
		owner := fmt.Sprintf("gh/owner%d", rank/4)
		repo := fmt.Sprintf("%s/repo%d", owner, rank)
		if rank < len(heads) {
			repo = heads[rank]
			owner = path.Dir(repo)
		}
		id = len(g.w.Specs)
		g.ids[rank] = id
		g.w.Specs = append(g.w.Specs, Spec{Name: repo + "/master", Repo: repo, Owner: owner, Known: rank < len(g.d.Heads)+g.d.Specs})
	}
	return id
}

func (g *generator) draw() int {
	x := g.rnd.Float64()
	for i, share := range g.d.Heads {
		if x < share {
			return i
		}
		x -= share
	}
	return len(g.d.Heads) + sort.SearchFloat64s(g.tail, g.rnd.Float64()*g.tail[len(g.tail)-1])
}

// people come at the rate of the hour, each alone.
func (g *generator) people() {
	g.flow(g.d.Scale, func(at time.Duration) {
		g.launch(at, g.spec(g.draw()), bindery.Attended, "")
	})
}

// bots come in the same hours, for what people want too and for repositories that nobody else wants. They are drawn
// last, so that people are the same with them and without them.
func (g *generator) bots() {
	if g.d.Unattended <= 0 {
		return
	}
	last := len(g.ids) + g.d.Specs + 1000
	g.flow(g.d.Scale*g.d.Unattended, func(at time.Duration) {
		rank := g.draw()
		if g.rnd.Float64() < g.d.Crawl {
			last++
			rank = last
		}
		g.launch(at, g.spec(rank), bindery.Unattended, fmt.Sprintf("bot%d", g.rnd.IntN(20)))
	})
}

// flow calls at the times of a Poisson process with the rate of each hour of the week.
func (g *generator) flow(scale float64, call func(at time.Duration)) {
	work, rest := hourly(weekdays), hourly(weekends)
	for at := time.Duration(0); ; {
		now := g.w.From.Add(at)
		rate := work[now.Hour()]
		if day := now.Weekday(); day == time.Saturday || day == time.Sunday {
			rate = rest[now.Hour()]
		}
		gap := g.rnd.ExpFloat64() / (rate * scale) * float64(time.Hour)
		if gap >= float64(g.d.For-at) { // as a number: it may be more than a Duration holds
			return
		}
		at += time.Duration(gap)
		call(at)
	}
}

func (g *generator) launch(at time.Duration, spec int, class bindery.Class, who string) {
	g.w.Launches = append(g.w.Launches, Launch{At: at, Spec: spec, Class: class, Requester: who})
}

// classes are bursts: the same spec, from one address, within ten minutes. Most are small, a few are lecture halls.
func (g *generator) classes() {
	mean := g.d.Bursts * g.d.Scale * g.d.For.Hours() / 24
	for t := g.rnd.ExpFloat64(); t < mean; t += g.rnd.ExpFloat64() {
		begin := time.Duration(t / mean * float64(g.d.For))
		size := min(500, int(10/math.Pow(1-g.rnd.Float64(), 1/2.2)))
		spec := g.spec(len(g.d.Heads) + g.rnd.IntN(g.d.Specs))
		who := fmt.Sprintf("class%d", len(g.w.Launches))
		for range size {
			at := begin + time.Duration(g.rnd.Float64()*float64(10*time.Minute))
			if at < g.d.For {
				g.launch(at, spec, bindery.Attended, who)
			}
		}
	}
}

// strangers are repositories that nobody has launched before. Most are launched once, some again within the hour.
func (g *generator) strangers() {
	mean := g.d.Strangers * g.d.Scale * g.d.For.Hours() / 24
	rank := len(g.d.Heads) + g.d.Specs
	for t := g.rnd.ExpFloat64(); t < mean; t += g.rnd.ExpFloat64() {
		at := time.Duration(t / mean * float64(g.d.For))
		for at < g.d.For {
			g.launch(at, g.spec(rank), bindery.Attended, "")
			if g.rnd.Float64() < 0.6 {
				break
			}
			at += time.Duration(g.rnd.ExpFloat64() * float64(20*time.Minute))
		}
		rank++
	}
}
