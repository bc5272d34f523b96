package web_test

import (
	"bytes"
	"net/http"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCrowd has 20,000 clients watch one build, over connections that are memory. It reports what one costs the hub,
// its goroutines' stacks included, and how long a line takes to reach clients, each of which is sent it by itself.
func BenchmarkCrowd(b *testing.B) {
	const clients, lines = 20_000, 20
	h := newHub()
	m := newMemoryNet()
	srv := &http.Server{Handler: newServer(b, h).Public()}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(m) }()
	defer func() { _ = srv.Close(); <-ended }()
	request := "GET " + specPath + " HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\n\r\n"

	before := memory()
	took := make([]int64, clients*lines) // preallocated: it is not the clients'
	var at, seen, line atomic.Int64
	news := make(chan struct{}, 1)
	mark := []byte("the-line")
	started := memory() - before
	for range clients {
		m.dial(request, func(text []byte) {
			if !bytes.Contains(text, mark) {
				return
			}
			now := time.Now().UnixNano()
			i := seen.Add(1) - 1
			took[i] = now - at.Load()
			if (i+1)%clients == 0 {
				news <- struct{}{}
			}
		})
	}
	h.until(b, "all clients", func() bool { return len(h.asks) == clients })
	id := h.theBuild(b)
	h.say(id, "it begins\n")
	each := float64(memory()-before-started) / clients
	b.ResetTimer()
	busy, rounds := processor(b), 0
	for b.Loop() {
		rounds++
		seen.Store(0)
		for range lines {
			line.Add(1)
			at.Store(time.Now().UnixNano())
			h.say(id, string(mark)+"\n")
			<-news
		}
	}
	b.ReportMetric(float64(processor(b)-busy)/1e3/float64(rounds*clients*lines), "us-cpu/line")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e6, "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100])/1e6, "ms-p99")
	b.ReportMetric(each, "B/client")
}

// processor is the processor time that this process has used. Other load on the machine does not count.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func memory() uint64 {
	runtime.GC()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
