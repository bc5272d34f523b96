package web_test

import (
	"fmt"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
)

// TestAudience has visitors of one build come at different times, leave in the order of coming, and one read nothing for
// a while: each is sent all lines once, and is counted while it watches.
func TestAudience(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	first := open(t, ts.URL+specPath)
	id := h.theBuild(t)
	counted := func(n int) { // what the audience itself reads counts for one
		t.Helper()
		h.until(t, fmt.Sprintf("%d watchers", n), func() bool { return h.watching[id] == n-1 })
	}
	big := strings.Repeat("x", 256<<10)
	var want []string
	say := func() {
		line := fmt.Sprintf("line %d %s\n", len(want), big)
		want = append(want, line)
		h.say(id, line)
	}
	say()
	h.change(func() { h.standing = bindery.Standing{Position: 1, Reason: "it waits"} })
	all := []*stream{first}
	for i := range 3 { // the first of these is slow: the kernel and the hub keep for it what they will
		all = append(all, open(t, ts.URL+specPath))
		counted(i + 2)
		say()
	}
	slow := all[1]
	first.resp.Body.Close()
	counted(3)
	for range 60 {
		say()
		for _, s := range all[2:] {
			for e, ok := s.event(); ok && !strings.HasPrefix(fmt.Sprint(e["message"]), fmt.Sprintf("line %d ", len(want)-1)); e, ok = s.event() {
			}
		}
	}
	counted(2) // the slow one is told by itself now
	h.finish(id)
	for i, s := range all[1:] {
		lines, ready := s.rest()
		var got []string
		for _, l := range lines {
			if l, ok := strings.CutPrefix(l, "building: "); ok {
				got = append(got, l)
			}
		}
		if s == slow && strings.Join(got, "") != strings.Join(want, "") {
			t.Errorf("the slow one was sent %d lines of %d", len(got), len(want))
		}
		if ready["phase"] != "ready" {
			t.Errorf("visitor %d: %v", i+1, ready)
		}
	}
	counted(1)
	h.until(t, "three sessions", func() bool { return h.launched == 3 })
}
