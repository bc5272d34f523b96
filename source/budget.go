package source

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// A budget bounds the questions that one forge's API is asked in any hour. Forges count them, some by the day's whole
// machine: what this hub takes must leave the most of it to others. Git's own protocol is not counted, so that is
// where questions go that are not allowed here.
type budget struct {
	path string // the times survive a restart

	mu    sync.Mutex
	limit int // questions that the forge allows in an hour
	left  int // of them, as it said last
	asked []time.Time
	until time.Time // the forge said not to ask before
}

// budgetShare is the part of a forge's limit that is ours. Of it, a fifth is for what git's protocol cannot answer
// cheaply: commits by the beginning of their names.
const budgetShare, budgetSpare = 0.05, 0.2

func openBudget(path string, limit int) *budget {
	b := &budget{path: path, limit: limit}
	if text, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(text, &b.asked) // a damaged file is as good as none
	}
	return b
}

// take reports whether a question may be asked now, and counts it.
func (b *budget) take(now time.Time, special bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.until) {
		return false
	}
	fresh := b.asked[:0]
	for _, t := range b.asked {
		if now.Sub(t) < time.Hour && !t.After(now) {
			fresh = append(fresh, t)
		}
	}
	b.asked = fresh
	most := float64(b.limit) * budgetShare
	if !special {
		most *= 1 - budgetSpare
	}
	if float64(len(b.asked)) >= max(1, most) {
		return false
	}
	b.asked = append(b.asked, now)
	if text, err := json.Marshal(b.asked); err == nil {
		_ = os.WriteFile(b.path, text, 0o600) // without it a restart asks a little more
	}
	return true
}

// rest leaves an API alone that does not answer, so that not every launch waits for it.
func (b *budget) rest(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at := now.Add(restFor); at.After(b.until) {
		b.until = at
	}
}

// restFor is how long.
const restFor = 30 * time.Second

// learn reads what a forge says about its limit.
func (b *budget) learn(r reply, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n, err := strconv.Atoi(r.header.Get("X-Ratelimit-Limit")); err == nil && n > 0 {
		b.limit = n
	}
	if n, err := strconv.Atoi(r.header.Get("X-Ratelimit-Remaining")); err == nil && n >= 0 {
		b.left = n
	}
	limited := r.status == http.StatusTooManyRequests ||
		(r.status == http.StatusForbidden && (r.header.Get("X-Ratelimit-Remaining") == "0" || r.header.Get("Retry-After") != ""))
	if !limited {
		return
	}
	b.until = now.Add(time.Minute)
	for _, name := range []string{"Retry-After", "X-Ratelimit-Reset", "Ratelimit-Reset"} {
		n, err := strconv.ParseInt(r.header.Get(name), 10, 64)
		if err != nil || n <= 0 {
			continue
		}
		at := time.Unix(n, 0)
		if name == "Retry-After" {
			at = now.Add(time.Duration(min(n, 7200)) * time.Second)
		}
		if at.After(b.until) && at.Before(now.Add(2*time.Hour)) {
			b.until = at
		}
	}
}
