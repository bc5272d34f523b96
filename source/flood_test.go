package source_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/bindery-hub/bindery/source/sourcetest"
)

// A flood of links to a server that does not answer is no flood of processes, and ends when its requests do.
func TestFlood(t *testing.T) {
	srv := sourcetest.Start(t)
	srv.Stall("/slow/")
	s := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if _, err := s.Resolve(ctx, git(fmt.Sprintf("%s/slow/%d", srv.URL, i), "main")); err == nil {
				t.Error("a server that says nothing was understood")
			}
		})
	}
	eventually(t, "the lookups that may run do", func() bool { return len(srv.Requests()) >= 32 })
	if n := len(gitsOf("ls-remote")); n > 32*4 { // each is git, and its helpers for http
		t.Errorf("%d processes run", n)
	}
	cancel()
	wg.Wait()
	if n := len(srv.Requests()); n > 40 {
		t.Errorf("the server was asked %d times", n)
	}
}
