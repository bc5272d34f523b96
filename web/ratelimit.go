package web

import (
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// A limiter counts requests in windows of fixed length, each beginning with the first request of its identity.
type limiter struct {
	most   int // in a window; 0: no limit
	window time.Duration

	mu    sync.Mutex
	all   map[string]*spent
	sweep time.Time // next look for windows that are over
}

type spent struct {
	used    int
	until   time.Time
	charged map[string]bool // requests that have paid: they may come back
}

// An allowance is what is left to an identity.
type allowance struct {
	limited bool // there is a limit at all
	ok      bool
	limit   int
	left    int
	reset   time.Time
}

func newLimiter(most int, window time.Duration) *limiter {
	return &limiter{most: most, window: window, all: map[string]*spent{}}
}

// take counts one request of an identity. A request that has an id pays once: whoever comes back after a broken
// connection is not charged again.
func (l *limiter) take(identity, request string, now time.Time) allowance {
	if l.most <= 0 {
		return allowance{ok: true}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.After(l.sweep) {
		for k, s := range l.all {
			if !now.Before(s.until) {
				delete(l.all, k)
			}
		}
		l.sweep = now.Add(l.window / 6)
	}
	s := l.all[identity]
	if s == nil || !now.Before(s.until) {
		s = &spent{until: now.Add(l.window), charged: map[string]bool{}}
		l.all[identity] = s
	}
	free := request != "" && s.charged[request]
	a := allowance{limited: true, ok: free || s.used < l.most, limit: l.most, reset: s.until}
	if a.ok && !free {
		s.used++
		if request != "" {
			s.charged[request] = true
		}
	}
	a.left = l.most - s.used
	return a
}

// identity is who a limit counts: an IPv4 address, or the /64 that one IPv6 household has.
func identity(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// tell writes BinderHub's headers. The reset is in Unix seconds, rounded up: who waits until then has waited enough.
func (a allowance) tell(h http.Header, now time.Time) {
	if !a.limited {
		return
	}
	h.Set("X-Ratelimit-Limit", strconv.Itoa(a.limit))
	h.Set("X-Ratelimit-Remaining", strconv.Itoa(a.left))
	h.Set("X-Ratelimit-Reset", strconv.FormatInt(a.reset.Add(time.Second-1).Unix(), 10))
	if !a.ok {
		h.Set("Retry-After", strconv.Itoa(a.wait(now)))
	}
}

// wait is how many seconds it takes until there is something left again.
func (a allowance) wait(now time.Time) int {
	return max(1, int((a.reset.Sub(now)+time.Second-1)/time.Second))
}
