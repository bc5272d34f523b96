package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/bindery-hub/bindery/internal/condatest"
	"github.com/bindery-hub/bindery/internal/pythons"
)

// A neighbour is another machine as far as hubs can tell: a network namespace at the other end of a link. It serves what
// no test can reach, a conda channel and interpreters for uv, so that hubs' build steps get them as they get all else:
// through the bridge, from an address that the configuration opens.
type neighbour struct {
	addr    string // of the neighbour
	url     string
	server  *http.Server
	link    netlink.Link
	channel func() (string, error) // the directory, made at the first call: packing an interpreter takes seconds
}

func newNeighbour(dir string) (n *neighbour, err error) {
	n = &neighbour{}
	n.channel = sync.OnceValues(func() (string, error) {
		to := filepath.Join(dir, "channel")
		all, err := condatest.Sample(context.Background(), "3.10")
		if err != nil {
			return "", err
		}
		return to, condatest.Write(context.Background(), to, all...)
	})
	listener, err := n.connect()
	if err != nil {
		return nil, fmt.Errorf("neighbour: %w", err)
	}
	n.url = "http://" + listener.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("/", pythons.New(filepath.Join(cacheDir(), "pythons"))) // its list names archives beside it
	mux.HandleFunc("/conda-forge/", func(w http.ResponseWriter, r *http.Request) {
		from, err := n.channel()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.StripPrefix("/conda-forge", http.FileServer(http.Dir(from))).ServeHTTP(w, r)
	})
	n.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = n.server.Serve(listener) }() // ends with close
	return n, nil
}

// connect makes the namespace and the link, and listens there.
func (n *neighbour) connect() (net.Listener, error) {
	third := os.Getpid() % 250
	here := fmt.Sprintf("10.233.%d.1", third)
	n.addr = fmt.Sprintf("10.233.%d.2", third)
	var listener net.Listener
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, which is elsewhere, ends with the goroutine
		done <- func() error {
			home, err := netns.Get()
			if err != nil {
				return err
			}
			defer home.Close()
			there, err := netns.New()
			if err != nil {
				return err
			}
			defer there.Close() // the listener keeps it
			outside, err := netlink.NewHandleAt(home)
			if err != nil {
				return err
			}
			defer outside.Close()
			attrs := netlink.NewLinkAttrs()
			attrs.Name = fmt.Sprintf("bnd-e2e%d", third)
			veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(int(there))}
			if err := outside.LinkAdd(veth); err != nil {
				return fmt.Errorf("link %s: %w", attrs.Name, err)
			}
			n.link = veth
			if err := errors.Join(configure(outside, attrs.Name, here+"/24"), configureHere("up0", n.addr+"/24", here)); err != nil {
				return err
			}
			listener, err = net.Listen("tcp", n.addr+":0")
			return err
		}()
	}()
	return listener, <-done
}

func configure(h *netlink.Handle, name, text string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(text)
	if err != nil {
		return err
	}
	return errors.Join(h.AddrAdd(link, addr), h.LinkSetUp(link))
}

// configureHere configures a link of the calling thread's namespace, with the way back.
func configureHere(name, text, gateway string) error {
	h, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	if err := configure(h, name, text); err != nil {
		return err
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway)})
}

// close takes the link away. The namespace goes with its last user.
func (n *neighbour) close() error {
	return errors.Join(n.server.Close(), netlink.LinkDel(n.link))
}
