// Guest is what the tests run inside containers: a web server that does to its container what it is asked to do.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	arg := func(i int) int { n, _ := strconv.Atoi(os.Args[i]); return n }
	switch os.Args[1] {
	case "serve":
		serve(os.Args[2])
	case "exit":
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "err")
		os.Exit(arg(2))
	case "eat":
		eat(arg(2))
	case "spam":
		for i := range arg(2) {
			fmt.Printf("line %09d\n", i)
		}
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "trap":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
		fmt.Println("ready")
		<-c
		os.Exit(7)
	case "sleep":
		time.Sleep(time.Hour)
	}
}

func serve(port string) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() { <-signals; os.Exit(0) }()
	http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		text, err := os.ReadFile(r.FormValue("path"))
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		_, _ = w.Write(text)
	})
	http.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.WriteFile(r.FormValue("path"), []byte("x"), 0o644))
	})
	http.HandleFunc("/dial", func(w http.ResponseWriter, r *http.Request) {
		_, err := net.DialTimeout("tcp", r.FormValue("addr"), 500*time.Millisecond)
		fmt.Fprintln(w, err)
	})
	http.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		dir, _ := os.Getwd()
		fmt.Fprintf(w, "%s\nhostname=%s\ncwd=%s\nuid=%d gid=%d\n", strings.Join(os.Environ(), "\n"), name, dir, os.Getuid(), os.Getgid())
	})
	http.HandleFunc("/fork", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("n"))
		started := 0
		for range n {
			if exec.Command("/proc/self/exe", "sleep").Start() == nil {
				started++
			}
		}
		fmt.Fprintln(w, started)
	})
	http.HandleFunc("/unshare", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, syscall.Unshare(syscall.CLONE_NEWUSER))
	})
	http.HandleFunc("/print", func(_ http.ResponseWriter, r *http.Request) { fmt.Println(r.FormValue("text")) })
	http.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("code"))
		os.Exit(n)
	})
	panic(http.ListenAndServe(":"+port, nil))
}

func eat(mb int) {
	debug.SetGCPercent(-1)
	var all [][]byte
	for range mb {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
	fmt.Println(len(all))
}
