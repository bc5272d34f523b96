package sched

// A piled thing knows its place, so that it can be taken out of the middle.
type piled[T any] interface {
	before(T) bool
	place(i int)
}

// A pile is a heap: its first element is before all others.
type pile[T piled[T]] []T

func (p *pile[T]) push(x T) {
	*p = append(*p, x)
	x.place(len(*p) - 1)
	p.up(len(*p) - 1)
}

func (p *pile[T]) remove(i int) T {
	h := *p
	x, last := h[i], len(h)-1
	h.swap(i, last)
	var none T
	h[last] = none
	*p = h[:last]
	if i < last {
		p.fix(i)
	}
	if cap(h) > 64 && len(*p)*4 < cap(h) {
		*p = append(make(pile[T], 0, len(*p)*2), *p...)
	}
	x.place(-1)
	return x
}

// fix restores the order after the element at i has changed.
func (p *pile[T]) fix(i int) {
	if !p.down(i) {
		p.up(i)
	}
}

func (p pile[T]) swap(i, j int) {
	p[i], p[j] = p[j], p[i]
	p[i].place(i)
	p[j].place(j)
}

func (p pile[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !p[i].before(p[parent]) {
			return
		}
		p.swap(i, parent)
		i = parent
	}
}

func (p pile[T]) down(i int) (moved bool) {
	for {
		best := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(p); c++ {
			if p[c].before(p[best]) {
				best = c
			}
		}
		if best == i {
			return moved
		}
		p.swap(i, best)
		i, moved = best, true
	}
}

// first appends the first n elements to out, in order.
func (p pile[T]) first(n int, out []T) []T {
	next := make([]int, 0, 16) // places whose parents are taken; few, so the best is looked for
	if len(p) > 0 {
		next = append(next, 0)
	}
	for ; n > 0 && len(next) > 0; n-- {
		best := 0
		for i := range next {
			if p[next[i]].before(p[next[best]]) {
				best = i
			}
		}
		i := next[best]
		out = append(out, p[i])
		next[best] = next[len(next)-1]
		next = next[:len(next)-1]
		for c := 2*i + 1; c <= 2*i+2 && c < len(p); c++ {
			next = append(next, c)
		}
	}
	return out
}
