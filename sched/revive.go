package sched

import (
	"fmt"
	"slices"
)

// Scheduler makes a scheduler that goes on from here. It returns an error for what no scheduler has written down.
func (w *Whole) Scheduler() (*Scheduler, error) {
	s := New(w.Config)
	s.steps, s.clock, s.order, s.set, s.virtual, s.turn, s.vacant = w.Steps, w.Clock, w.Order, w.Set, w.Virtual, w.Turn, w.Vacant
	s.reviveRules(w)
	s.reviveCosts(w)
	for _, x := range w.Workers {
		n := s.worker(x.Name)
		n.slots, n.up, n.full, n.space = x.Slots, x.Up, x.Full, x.Space
	}
	if err := s.reviveBuilds(w); err != nil {
		return nil, err
	}
	for _, x := range w.Debtors {
		if x.Side != byOwner && x.Side != byRequester {
			return nil, fmt.Errorf("a flow of side %d is in debt", x.Side)
		}
		k := s.bucket(x.Class)
		f := k.flows[x.Side][x.Name]
		if x.Swept != nil {
			f = x.Swept.flow()
		}
		if f == nil {
			return nil, fmt.Errorf("nothing is known of %s, which is in debt", x.Name)
		}
		s.debtors = append(s.debtors, debtor{k, f})
	}
	for _, x := range w.Alarms {
		s.alarms = append(s.alarms, alarm{at: x.At, n: x.N, what: x.What, id: x.ID})
	}
	for _, f := range w.Failures {
		s.failures[f.Key] = f
	}
	s.reviveSessions(w)
	s.count()
	return s, nil
}

func (s *Scheduler) reviveRules(w *Whole) {
	for _, r := range w.Rules {
		s.planned[r.key()] = r.Rule
		if !r.InForce {
			continue
		}
		s.rules[r.name()] = r.Rule
		if r.Scope == OnNetwork || r.Scope == OnSpec {
			s.broad = append(s.broad, newBroad(r.Rule))
		}
	}
	for name, n := range w.Marks {
		s.marks[name] = n
	}
}

func (s *Scheduler) reviveCosts(w *Whole) {
	s.costs.all, s.costs.most = *w.All.law(), w.Most
	for _, x := range w.Repos {
		s.costs.repos[x.Name] = x.law()
		s.costs.order = append(s.costs.order, x.Name)
	}
	for _, x := range w.Kinds {
		s.costs.kinds[x.Name] = x.law()
	}
	s.arrivals = rate{w.Arrivals.N, w.Arrivals.Last}
	s.quits, s.ends = quits{w.Quits[0], w.Quits[1]}, stretch{w.Ends[0], w.Ends[1]}
	if w.Asked != nil {
		s.stretch = stretch{w.Asked.Early, w.Asked.Late}
	}
}

func (x wholeLaw) law() *law { return &law{n: x.N, mean: x.Mean, variance: x.Variance, disk: x.Disk} }

func (s *Scheduler) reviveBuilds(w *Whole) error {
	of := make(map[int64]*build, len(w.Builds)) // by order
	for i := range w.Builds {
		b := w.Builds[i].build()
		of[b.order] = b
		s.builds[b.ID], s.keys[b.Key] = b, b
		if int(b.aside.rank) >= len(s.buckets) {
			return fmt.Errorf("build %s was of class %d", b.ID, b.aside.rank)
		}
		if w.Builds[i].Latest {
			s.refs[refName{b.Repo, b.Ref}] = b
		}
		if b.delayed {
			s.later++
		}
		if r := w.Builds[i].Run; r != nil {
			b.run = r.run()
			b.run.worker = s.worker(b.Worker)
			b.run.worker.add(b)
			s.account(b, +1)
		}
	}
	for i, k := range s.buckets {
		if err := k.revive(&w.Classes[i], of); err != nil {
			return err
		}
	}
	if w.Asked == nil {
		return nil
	}
	for _, p := range w.Asked.Told {
		if b := of[p.Build]; b != nil {
			b.told = &promise{from: p.From, to: p.To, at: p.At, n: p.N}
		}
	}
	return nil
}

func (w *wholeBuild) build() *build {
	b := &build{
		Build: w.Build, order: w.Order, at: -1, watchers: w.Watchers, delayed: w.Delayed, pinned: w.Pinned, watched: w.Watched,
		mark: w.Mark, yields: w.Yields, alone: w.Alone, askers: slices.Clip(w.Askers), avoid: slices.Clip(w.Avoid),
	}
	if w.Aside != nil {
		b.aside = aside{true, w.Aside.Rank, w.Aside.Slow}
	}
	b.age()
	return b
}

func (w *wholeRun) run() *run {
	r := &run{
		class: w.Class, started: w.Started, moved: w.Moved, charge: w.Charge, paid: w.Paid, disk: w.Disk, most: w.Most,
		long: w.Long, turn: w.Turn, stopping: w.Stopping, why: w.Why, spared: w.Spared, revived: w.Revived,
	}
	if !w.To.IsZero() {
		r.told = &promise{from: w.From, to: w.To}
	}
	return r
}

func (k *bucket) revive(w *wholeClass, of map[int64]*build) error {
	k.virtual, k.served, k.load, k.tag = w.Virtual, w.Served, w.Load, w.Tag
	var payers []*payer
	for d := range w.Flows {
		for _, x := range w.Flows[d] {
			f := x.flow()
			k.flows[d][x.Name] = f
			if x.Pays != nil {
				f.pays = &payer{flow: f, builds: x.Pays.Builds, sum: x.Pays.Sum, at: x.Pays.At}
				payers = append(payers, f.pays)
			}
		}
	}
	k.payers = make(pile[*payer], len(payers))
	for _, p := range payers {
		if p.at < 0 || p.at >= len(payers) || k.payers[p.at] != nil {
			return fmt.Errorf("of %d flows that pay, %s is number %d", len(payers), p.flow.name, p.at)
		}
		k.payers[p.at] = p
	}
	for z := range w.Lots {
		for i, pairs := range w.Lots[z] {
			p := &post{at: i}
			for _, x := range pairs {
				q, err := k.revivePair(size(z), x, of)
				if err != nil {
					return err
				}
				q.at = int32(len(p.pairs))
				p.pairs = append(p.pairs, q)
			}
			if len(p.pairs) == 0 {
				return fmt.Errorf("a post has no pairs")
			}
			p.flow = p.pairs[0].flow[p.pairs[0].held]
			p.flow.post[z] = p
			k.lots[z] = append(k.lots[z], p)
		}
		for _, x := range w.Paused[z] {
			if _, err := k.revivePair(size(z), x, of); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w wholeFlow) flow() *flow {
	return &flow{name: w.Name, tag: w.Tag, left: w.Left, busy: w.Busy, load: w.Load}
}

func (k *bucket) revivePair(z size, w wholePair, of map[int64]*build) (*pair, error) {
	if w.Side != byOwner && w.Side != byRequester {
		return nil, fmt.Errorf("a pair is of side %d", w.Side)
	}
	var q *pair
	for _, orders := range w.Lanes {
		l := &lane{}
		for _, n := range orders {
			b := of[n]
			if b == nil || b.lane != nil {
				return nil, fmt.Errorf("no build of order %d waits for a lane", n)
			}
			b.lane = l
			b.place(len(l.builds))
			l.builds = append(l.builds, b)
			k.waiting++
		}
		if len(l.builds) == 0 {
			return nil, fmt.Errorf("a lane has no builds")
		}
		first := l.builds[0]
		flows := [2]*flow{k.flows[byOwner][first.Owner], k.flows[byRequester][first.Requester]}
		if flows[byOwner] == nil || flows[byRequester] == nil {
			return nil, fmt.Errorf("nothing is known of %s or %s, who have builds that wait", first.Owner, first.Requester)
		}
		if q == nil {
			if q = k.pair(z, flows); len(q.lanes) > 0 {
				return nil, fmt.Errorf("%s and %s are a pair twice", first.Owner, first.Requester)
			}
			q.held, q.other = w.Side, w.Other
		}
		if q.flow != flows {
			return nil, fmt.Errorf("build %s waits among those of others", first.ID)
		}
		l.pair, l.paused = q, slices.Contains(w.Paused, len(q.lanes))
		q.add(l)
		if int(l.at) != len(q.lanes)-1 {
			return nil, fmt.Errorf("lanes are out of order")
		}
	}
	if q == nil {
		return nil, fmt.Errorf("a pair has no lanes")
	}
	return q, nil
}

func (s *Scheduler) reviveSessions(w *Whole) {
	for i := range w.Sessions {
		x := w.Sessions[i]
		s.sessions[x.ID] = &x
		if !x.Waiting {
			s.reserve(&x, 1)
		}
	}
	for _, id := range w.Lobby {
		if x := s.sessions[id]; x != nil {
			s.lobby = append(s.lobby, x)
		}
	}
	for i := range w.Stays {
		x := w.Stays[i].Session
		s.stays = append(s.stays, stay{&x, w.Stays[i].Lasted})
	}
}
