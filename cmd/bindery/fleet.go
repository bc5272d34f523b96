package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/worker"
)

// A fleet is the hub's own worker and those that have joined. Images live where they were built: it finds out which
// worker has one.
type fleet struct {
	own       workers
	canary    string // directory of the hub's own repository; empty: it has none
	authority *worker.Authority
	log       *slog.Logger

	mu     sync.Mutex
	others map[string]*worker.Client // by name; those whose images this machine sees
	holds  map[string]string         // session to the name of the worker that prepared it
}

func newFleet(own workers, canary string, authority *worker.Authority, log *slog.Logger) *fleet {
	return &fleet{own: own, canary: canary, authority: authority, log: log, others: map[string]*worker.Client{}, holds: map[string]string{}}
}

// Addresses of workers say how they are reached.
const (
	bySocket = "unix:"
	byTLS    = "tls:"
)

// connect makes the client of a worker that has joined.
func (f *fleet) connect(r bindery.WorkerRecord) (dispatch.Worker, error) {
	var c *worker.Client
	if socket, ok := strings.CutPrefix(r.Address, bySocket); ok {
		c = worker.NewClient(socket)
	} else if address, ok := strings.CutPrefix(r.Address, byTLS); ok {
		c = f.authority.Client(r.Name, address)
	} else {
		return nil, fmt.Errorf("%q is no address of a worker", bindery.Printable(r.Address))
	}
	if r.Shared {
		f.mu.Lock()
		f.others[r.Name] = c
		f.mu.Unlock()
	}
	return joined{c, f.canary}, nil
}

// joined is a worker that has joined, as a hub may use it: for sources that visitors may name, and the hub's own
// repository. It is built where it is seen: who does not share a file system with the hub gets no builds.
type joined struct {
	*worker.Client
	canary string
}

// Start refuses what only the person at the keyboard may ask for.
func (j joined) Start(ctx context.Context, req bindery.BuildRequest) error {
	if err := visited(req.Source, j.canary); err != nil {
		return err
	}
	return j.Client.Start(ctx, req)
}

// forget drops a worker that was removed.
func (f *fleet) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.others, name)
}

// crew is the others, in order.
func (f *fleet) crew() (names []string, clients []*worker.Client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.others {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		clients = append(clients, f.others[name])
	}
	return names, clients
}

// prepareWithin is how long a worker gets to prepare a root file system, which takes milliseconds, before another one is
// asked.
const prepareWithin = 15 * time.Second

// Prepare makes a session's root file system at whichever worker has the image: the hub's own first. Where none that
// answers has it, it is not there, and is built again.
func (f *fleet) Prepare(ctx context.Context, session, image string) (bindery.Rootfs, error) {
	names, clients := f.crew()
	var first error
	try := func(name string, prepare func(context.Context, string, string) (bindery.Rootfs, error)) (bindery.Rootfs, bool) {
		within, cancel := context.WithTimeout(ctx, prepareWithin)
		defer cancel()
		root, err := prepare(within, session, image)
		if err != nil {
			if !errors.Is(err, bindery.ErrNotFound) {
				f.log.WarnContext(ctx, "a worker cannot prepare a session", "worker", name, "session", session, "err", err)
			}
			first = cmp.Or(first, err)
			return root, false
		}
		f.mu.Lock()
		f.holds[session] = name
		f.mu.Unlock()
		return root, true
	}
	if root, ok := try("", f.own.Prepare); ok || len(clients) == 0 {
		return root, first
	}
	for i, c := range clients {
		if root, ok := try(names[i], c.Prepare); ok {
			return root, nil
		}
	}
	if ctx.Err() != nil {
		return bindery.Rootfs{}, ctx.Err()
	}
	return bindery.Rootfs{}, bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "Build it again.", "No worker has the image %s", image).Because(first)
}

// Release removes a session's root file system. A worker that does not answer is not waited for: when it is back, what
// it has prepared without a session is swept.
func (f *fleet) Release(ctx context.Context, session string) error {
	f.mu.Lock()
	holder, known := f.holds[session]
	delete(f.holds, session)
	f.mu.Unlock()
	names, clients := f.crew()
	for i, c := range clients {
		if known && names[i] != holder {
			continue
		}
		within, cancel := context.WithTimeout(ctx, prepareWithin)
		if err := c.Release(within, session); err != nil {
			f.log.WarnContext(ctx, "a worker cannot release a session; it is swept later", "worker", names[i], "session", session, "err", err)
		}
		cancel()
	}
	if known && holder != "" {
		return nil
	}
	return f.own.Release(ctx, session)
}

// forgetImages removes the images of a source, and of it only, from all workers. One that has joined and does not
// answer keeps them until next time.
func (f *fleet) forgetImages(ctx context.Context, src bindery.Source) error {
	names, clients := f.crew()
	for i, c := range clients {
		within, cancel := context.WithTimeout(ctx, prepareWithin)
		if err := forgetImages(within, c, src); err != nil {
			f.log.WarnContext(ctx, "a worker keeps images of the hub's own", "worker", names[i], "err", err)
		}
		cancel()
	}
	own, err := f.own.client(ctx)
	if err != nil {
		return err
	}
	return forgetImages(ctx, own, src)
}

func forgetImages(ctx context.Context, c *worker.Client, src bindery.Source) error {
	all, err := c.Images(ctx)
	for _, img := range all {
		if img.Source.Provider == src.Provider && img.Source.URL == src.URL {
			err = errors.Join(err, c.RemoveImage(ctx, img.Name))
		}
	}
	return err
}

// staff is the dispatcher's part that knows workers, for the web.
type staff struct {
	*dispatch.Dispatcher
	fleet *fleet
	gate  string // where workers join over the network; empty: nowhere
}

// AddWorker has a worker of this machine join, by its socket.
func (s staff) AddWorker(ctx context.Context, who string, in api.NewWorker) error {
	client := worker.NewClient(in.Socket)
	status, err := client.Status(ctx)
	if err != nil {
		return bindery.Errorf(bindery.ErrUnreachable, bindery.User, "Start it with `bindery worker`.", "No worker answers at %s", bindery.Printable(in.Socket)).Because(err)
	}
	if status.Name != in.Name {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Start it with --name "+in.Name+".", "The worker at %s calls itself %s", bindery.Printable(in.Socket), bindery.Printable(status.Name))
	}
	r := bindery.WorkerRecord{Name: in.Name, Pool: cmp.Or(in.Pool, status.Pool), Address: bySocket + filepath.Clean(in.Socket), Shared: true}
	return s.JoinWorker(ctx, r, who, "", "")
}

// RemoveWorker forgets a worker, and its images.
func (s staff) RemoveWorker(ctx context.Context, name, who, reason string, force bool) error {
	err := s.Dispatcher.RemoveWorker(ctx, name, who, reason, force)
	if err == nil {
		s.fleet.forget(name)
	}
	return err
}

// AddJoinToken makes a token. Its secret is told to whoever asks, and kept by its hash.
func (s staff) AddJoinToken(ctx context.Context, who string, in api.NewJoinToken) (api.JoinToken, error) {
	if s.gate == "" {
		return api.JoinToken{}, bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Start it with --worker-listen ADDR.", "No worker can join this hub over the network")
	}
	tok := s.fleet.authority.NewToken()
	rec := bindery.JoinToken{ID: tok.ID, Hash: tok.Hash(), Pool: in.Pool, Uses: cmp.Or(in.Uses, 1), Who: who, Expires: time.Now().Add(cmp.Or(in.For, time.Hour))}
	if err := s.Dispatcher.AddJoinToken(ctx, rec, in.Reason); err != nil {
		return api.JoinToken{}, err
	}
	return api.JoinToken{ID: rec.ID, Token: tok.String(), Pool: rec.Pool, Uses: rec.Uses, Expires: rec.Expires, URL: "https://" + s.gate}, nil
}

// join lets a worker in over the network: by a token, or by its certificate if it is a member still.
func (s staff) join(ctx context.Context, r bindery.WorkerRecord, token, hash string) error {
	if token == "" {
		all, err := s.Workers(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(v bindery.WorkerView) bool { return v.Record.Name == r.Name })
		if i < 0 {
			return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Join with a new token of `bindery workers token`.", "The worker %s was removed", r.Name)
		}
		r.Pool = all[i].Record.Pool
	}
	return s.JoinWorker(ctx, r, "worker:"+r.Name, token, hash)
}

// serve lets workers join over the network until ctx ends.
func (s staff) serve(ctx context.Context, l net.Listener, log *slog.Logger) error {
	gate := &worker.Gate{Authority: s.fleet.authority, Join: s.join, Log: log}
	srv := &http.Server{
		Handler: gate.Handler(), TLSConfig: s.fleet.authority.ServerTLS(), ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		MaxHeaderBytes: 1 << 14, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // joining again is harmless
	defer stop()
	if err := srv.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
