package sched

import (
	"cmp"
	"slices"
)

// A line is the ready builds in order of submission. It finds the first, the rank of any, and the place of a build that
// comes back, in about the square root of its length.
type line struct {
	blocks [][]*build // each sorted, none empty, all in order
	n      int
}

const blockMost = 512

// block returns the index of the block where b is or belongs.
func (l *line) block(b *build) int {
	i, _ := slices.BinarySearchFunc(l.blocks, b.order, func(bl []*build, order int64) int {
		return cmp.Compare(bl[len(bl)-1].order, order)
	})
	return i
}

func within(bl []*build, b *build) (int, bool) {
	return slices.BinarySearchFunc(bl, b.order, func(x *build, order int64) int { return cmp.Compare(x.order, order) })
}

func (l *line) insert(b *build) {
	l.n++
	i := l.block(b)
	if i == len(l.blocks) {
		if i == 0 || len(l.blocks[i-1]) >= blockMost {
			l.blocks = append(l.blocks, append(make([]*build, 0, blockMost), b))
			return
		}
		i--
	}
	bl := l.blocks[i]
	j, _ := within(bl, b)
	bl = slices.Insert(bl, j, b)
	l.blocks[i] = bl
	if len(bl) > blockMost {
		half := slices.Clone(bl[blockMost/2:])
		l.blocks[i] = slices.Delete(bl, blockMost/2, len(bl))
		l.blocks = slices.Insert(l.blocks, i+1, half)
	}
}

func (l *line) remove(b *build) {
	i := l.block(b)
	j, found := within(l.blocks[i], b)
	if !found {
		panic("sched: a ready build is not in the line")
	}
	l.n--
	l.blocks[i] = slices.Delete(l.blocks[i], j, j+1)
	if len(l.blocks[i]) == 0 {
		l.blocks = slices.Delete(l.blocks, i, i+1)
	}
}

func (l *line) first() *build {
	if l.n == 0 {
		return nil
	}
	return l.blocks[0][0]
}

// rank is the number of builds before b.
func (l *line) rank(b *build) int {
	i := l.block(b)
	n := 0
	for _, bl := range l.blocks[:i] {
		n += len(bl)
	}
	j, _ := within(l.blocks[i], b)
	return n + j
}
