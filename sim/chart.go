package sim

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Sizes of the chart, in pixels: panels one below the other.
const (
	chartWidth  = 960
	panelHeight = 210
	panelGap    = 58
	marginLeft  = 64
	marginRight = 150
	marginTop   = 64
)

// Colours that people with any colour vision can tell apart.
const (
	blue   = "#0072b2"
	orange = "#d55e00"
	green  = "#009e73"
	purple = "#cc79a7"
	yellow = "#b8860b"
)

func (rep *Report) height() int { return marginTop + (len(rep.Order)+1)*(panelHeight+panelGap) }

func (rep *Report) title() string {
	return fmt.Sprintf("%s, %s, %s", rep.Workload, rep.From.Format("2006-01-02 15:04 MST"), hours(rep.Length))
}

// draw draws a panel for each policy, then the curves.
func (rep *Report) draw(c canvas) {
	c.text(marginLeft, 26, 16, true, "start", rep.title())
	for i, name := range rep.Order {
		rep.day(panel{c: c, top: marginTop + i*(panelHeight+panelGap)}, name)
	}
	rep.curves(panel{c: c, top: marginTop + len(rep.Order)*(panelHeight+panelGap)})
}

func hours(seconds float64) string {
	return fmt.Sprintf("%g h", math.Round(seconds/360)/10)
}

// A panel is one pair of axes.
type panel struct {
	c    canvas
	top  int
	x, y func(float64) float64 // value -> pixels
}

func (p *panel) text(x, y float64, anchor, s string) { p.c.text(x, y, 12, false, anchor, s) }

func (p *panel) rule(x1, y1, x2, y2 float64) {
	p.c.line("#dddddd", 1, []float64{x1, x2}, []float64{y1, y2})
}

func (p *panel) line(colour string, xs, ys []float64) {
	px, py := make([]float64, len(xs)), make([]float64, len(ys))
	for i := range xs {
		px[i], py[i] = p.x(xs[i]), p.y(ys[i])
	}
	p.c.line(colour, 1.6, px, py)
}

// dashed is a line that another one may lie below.
func (p *panel) dashed(colour string, xs, ys []float64) {
	const dash = 12
	var px, py []float64
	on, left := true, float64(dash) // of this dash, or of the gap
	end := func(x, y float64) {
		if on {
			p.c.line(colour, 1.6, append(px, x), append(py, y))
		}
		on, left, px, py = !on, dash, nil, nil
	}
	for i := range xs {
		x, y := p.x(xs[i]), p.y(ys[i])
		for i > 0 {
			x0, y0 := px[len(px)-1], py[len(py)-1]
			long := math.Hypot(x-x0, y-y0)
			if long <= left {
				left -= long
				break
			}
			x1, y1 := x0+(x-x0)*left/long, y0+(y-y0)*left/long
			end(x1, y1)
			px, py = []float64{x1}, []float64{y1}
		}
		px, py = append(px, x), append(py, y)
	}
	if len(px) > 0 {
		end(px[len(px)-1], py[len(py)-1])
	}
}

// legend is the nth line of what the colours mean.
func (p *panel) legend(n int, colour, s string) {
	x, y := float64(chartWidth-marginRight+12), float64(p.top+14+18*n)
	p.c.line(colour, 3, []float64{x, x + 16}, []float64{y - 4, y - 4})
	p.text(x+22, y, "start", s)
}

func (p *panel) left() float64   { return marginLeft }
func (p *panel) right() float64  { return chartWidth - marginRight }
func (p *panel) bottom() float64 { return float64(p.top + panelHeight) }

// day draws what a policy's room looked like: who wants builds above, what runs below, each on a scale of its own.
func (rep *Report) day(p panel, name string) {
	res := rep.Policies[name]
	n := len(res.Series.Samples)
	xs, wanted, running, launching := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	for i, s := range res.Series.Samples {
		xs[i] = float64(i) * res.Series.Step
		wanted[i], running[i], launching[i] = float64(s.Wanted), float64(s.Running), float64(s.Launching)
	}
	p.text(p.left(), float64(p.top-10), "start", fmt.Sprintf("%s: %d of %d specs, %d of %d launches served; %d builds started, %d finished",
		name, res.Specs.Served, res.Specs.Asked, res.Launches.Served, res.Launches.Asked, res.Builds.Started, res.Builds.Finished))
	p.x = func(v float64) float64 { return p.left() + v/rep.Length*(p.right()-p.left()) }
	rep.clock(p)
	p.scale(0, 0.5, slices.Max(append(wanted, 10)))
	p.line(blue, xs, wanted)
	p.scale(0.58, 1, max(slices.Max(append(running, 5)), slices.Max(append(launching, 5))))
	p.line(green, xs, launching)
	p.line(orange, xs, running)
	p.legend(0, blue, "builds wanted")
	p.legend(6, orange, "builds running")
	p.legend(7, green, "launches")
}

// scale makes a part of the panel reach from 0 to most, and draws its lines.
func (p *panel) scale(from, to, most float64) {
	step := tick(most)
	most = math.Ceil(most/step) * step
	bottom, height := float64(p.top)+to*panelHeight, (to-from)*panelHeight
	p.y = func(v float64) float64 { return bottom - v/most*height }
	for v := 0.0; v <= most; v += step {
		p.rule(p.left(), p.y(v), p.right(), p.y(v))
		p.text(p.left()-8, p.y(v)+4, "end", fmt.Sprintf("%g", v))
	}
}

// clock marks the hours, or the days of a long window, below a panel.
func (rep *Report) clock(p panel) {
	step, layout := 2*time.Hour, "15:04"
	if rep.Length > 48*3600 {
		step, layout = 24*time.Hour, "Mon 2"
	}
	first := rep.From.Truncate(step)
	for t := first; !t.After(rep.From.Add(time.Duration(rep.Length) * time.Second)); t = t.Add(step) {
		if t.Before(rep.From) {
			continue
		}
		x := p.x(t.Sub(rep.From).Seconds())
		p.rule(x, p.bottom(), x, p.bottom()+5)
		p.text(x, p.bottom()+18, "middle", t.Format(layout))
	}
}

// tick is a round step that gives about five lines.
func tick(most float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(most/5)))
	for _, f := range []float64{1, 2, 5} {
		if most/(f*unit) <= 5 {
			return f * unit
		}
	}
	return 10 * unit
}

// curves draws, for each policy, which share of visitors waits longer than a time.
func (rep *Report) curves(p panel) {
	const shortest, rarest = 1, -4.0
	longest := math.Log10(max(rep.Length, 10))
	p.x = func(v float64) float64 {
		return p.left() + math.Log10(max(v, shortest))/longest*(p.right()-p.left())
	}
	p.y = func(v float64) float64 {
		return float64(p.top) + max(math.Log10(v), rarest)/rarest*panelHeight
	}
	p.text(p.left(), float64(p.top-10), "start", "Share of visitors who wait longer")
	for e := 0.0; e >= rarest; e-- {
		y := p.y(math.Pow(10, e))
		p.rule(p.left(), y, p.right(), y)
		p.text(p.left()-8, y+4, "end", fmt.Sprintf("%g %%", math.Pow(10, e+2)))
	}
	for _, t := range []time.Duration{time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 4 * time.Hour, 24 * time.Hour} {
		if t.Seconds() <= rep.Length {
			x := p.x(t.Seconds())
			p.rule(x, float64(p.top), x, p.bottom())
			p.text(x, p.bottom()+18, "middle", short(t))
		}
	}
	colours := map[string]string{Fair: green, FIFO: blue, Pool2019: orange, PoolNow: purple, Alone: yellow}
	for i, name := range rep.Order {
		p.legend(i, colours[name], name)
	}
	// What fair is compared with comes last: the two may be one line.
	last := func(name string) int { return map[bool]int{true: 1}[name == FIFO] }
	for _, name := range slices.SortedStableFunc(slices.Values(rep.Order), func(a, b string) int { return last(a) - last(b) }) {
		xs, ys := survival(rep.Policies[name].waits)
		if end := slices.IndexFunc(ys, func(y float64) bool { return y <= math.Pow(10, rarest) }); end >= 0 {
			xs, ys = xs[:end+1], ys[:end+1]
		}
		draw := p.line
		if name == FIFO {
			draw = p.dashed
		}
		draw(colours[name], xs, ys)
	}
}

// survival is the share of sorted values that are above each of at most some hundred.
func survival(sorted []float64) (xs, ys []float64) {
	n := len(sorted)
	for x := 1.0; n > 0 && x < sorted[n-1]; x *= 1.05 {
		i, _ := slices.BinarySearch(sorted, x)
		xs, ys = append(xs, x), append(ys, float64(n-i)/float64(n))
	}
	if n > 0 {
		xs, ys = append(xs, max(1, sorted[n-1])), append(ys, 0.1/float64(n))
	}
	return xs, ys
}

func short(t time.Duration) string {
	switch {
	case t >= time.Hour:
		return fmt.Sprintf("%g h", t.Hours())
	case t >= time.Minute:
		return fmt.Sprintf("%g min", t.Minutes())
	}
	return fmt.Sprintf("%g s", t.Seconds())
}
