package web_test

import (
	"fmt"
	"net"
	"runtime"
	"testing"
)

// BenchmarkWatchers measures what one open stream costs the hub: heap and stacks, its connection included. The other
// ends are bare connections that hold next to nothing.
func BenchmarkWatchers(b *testing.B) {
	const watchers = 1000
	for b.Loop() {
		h := newHub()
		ts := serve(b, h)
		before := memory()
		conns := make([]net.Conn, 0, watchers)
		for range watchers {
			c, err := net.Dial("tcp", ts.Listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			conns = append(conns, c)
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n", specPath)
		}
		h.until(b, "all watchers", func() bool { return len(h.asks) == watchers })
		h.say(h.theBuild(b), "a line\n")
		b.ReportMetric(float64(memory()-before)/watchers, "B/watcher")
		for _, c := range conns {
			c.Close()
		}
		ts.CloseClientConnections()
	}
}

func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
