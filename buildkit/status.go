package buildkit

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	solvererrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/opencontainers/go-digest"

	bindery "github.com/bindery-hub/bindery"
)

const (
	// mostLog is the bytes of log that one build passes on: six times as many, which JSON may make of them, fit a journal.
	// BuildKit clips single steps before that.
	mostLog      = 8 << 20
	mostTail     = 4 << 10 // bytes of a step's output that its error repeats
	moveInterval = time.Second
)

// progress turns BuildKit's status into events, and remembers what errors need.
type progress struct {
	emit   func(bindery.Event) // by say only
	cgroup string              // below which each container of a step has its own; empty: unknown
	theirs bool                // the steps are a Dockerfile's
	// explain may know what a command's exit code means; nil otherwise
	explain func(step string, code int, said string) *bindery.Error
	// mentions returns the line of the repository's files that names a host, like "requirements.txt, line 3: "; nil otherwise
	mentions func(host string) string
	// source returns where the Dockerfile has a step; nil otherwise
	source func(step string) *solvererrdefs.Source
	full   func() bool // whether the engine's disk is full now

	mu       sync.Mutex
	vertices map[digest.Digest]*vertex
	logged   int
	all      meter // of the steps of all builds
	silent   bool  // nothing was said since the last look
	wasFull  bool  // the disk, when a step said so
}

// A vertex is one node of the graph as far as a person sees it.
type vertex struct {
	name    string
	hidden  bool
	command bool // runs a command, as opposed to copying and merging
	fetches bool // its command mostly downloads: a network that is away is nobody's mistake
	ours    bool // part of every build
	state   bindery.Step
	moved   time.Time
	meter   *meter // of its container; nil: it has none yet
	part    []byte // output that no newline has ended yet
	tail    []byte
	err     string
}

func newProgress(emit func(bindery.Event), cgroup string, theirs bool, full func() bool) *progress {
	return &progress{emit: emit, cgroup: cgroup, theirs: theirs, full: full, vertices: map[digest.Digest]*vertex{}, all: meter{root: cgroupRoot, cgroup: cgroup}}
}

// follow reads statuses until ch is closed, and looks at each tick whether silent steps compute.
func (p *progress) follow(ch <-chan *client.SolveStatus, tick <-chan time.Time) {
	for {
		select {
		case s, ok := <-ch:
			if !ok {
				return
			}
			p.take(s)
		case now := <-tick:
			p.look(now)
		}
	}
}

func (p *progress) say(ev bindery.Event) {
	p.silent = false
	p.emit(ev)
}

func (p *progress) take(s *client.SolveStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range s.Vertexes {
		p.vertex(v)
	}
	for _, st := range s.Statuses {
		p.move(st)
	}
	for _, l := range s.Logs {
		p.log(l)
	}
	for _, v := range s.Vertexes {
		if v.Completed != nil {
			p.rest(p.vertices[v.Digest])
		}
	}
}

func (p *progress) vertex(v *client.Vertex) {
	at, ok := p.vertices[v.Digest]
	if !ok {
		at = p.describe(v.Name)
		at.state.ID = v.Digest.Encoded()[:12]
		p.vertices[v.Digest] = at
	}
	began, ended := at.state.Started.IsZero() && v.Started != nil, at.state.Ended.IsZero() && v.Completed != nil
	// Without a start it is run again for another input. What was cached once is only being fetched when it comes again.
	if v.Started == nil || at.state.Cached && !at.state.Ended.IsZero() && v.Error == "" {
		return
	}
	at.state.Started, at.state.Cached, at.err = *v.Started, v.Cached, v.Error
	at.state.Failed = v.Error != ""
	if v.Completed != nil {
		at.state.Ended = *v.Completed
	}
	if at.hidden || (!began && !ended) {
		return
	}
	ev := bindery.Event{Phase: bindery.PhaseBuilding, Step: new(at.state)}
	switch {
	case began && v.Cached:
		ev.Message = at.name + " (cached)\n"
	case began:
		ev.Message = at.name + "\n"
	}
	p.say(ev)
}

// describe reads a vertex' nature from its name. Ours are given in graph.go; the others are a Dockerfile's.
func (p *progress) describe(name string) *vertex {
	if rest, ok := strings.CutPrefix(name, hidden); ok {
		return &vertex{name: rest, hidden: true, ours: true}
	}
	if strings.HasPrefix(name, "[internal]") || strings.HasPrefix(name, "[auth]") || strings.HasPrefix(name, "[context ") {
		return &vertex{name: name, hidden: true}
	}
	v := &vertex{name: name, state: bindery.Step{Name: name}}
	if p.theirs {
		_, rest, _ := strings.Cut(name, "] ")
		v.command = strings.HasPrefix(rest, "RUN ")
		v.fetches = strings.HasPrefix(rest, "FROM ")
		return v
	}
	switch {
	case strings.HasPrefix(name, "[") && strings.Contains(name, "] RUN "): // of the appendix
		v.command = true
	case strings.HasPrefix(name, "Install "), strings.HasPrefix(name, "Build and install "), strings.HasPrefix(name, "Fetch "), name == "Prepare the base":
		v.command, v.fetches = true, true
		v.ours = strings.HasPrefix(name, "Fetch ") || name == "Prepare the base" || name == "Install the Jupyter servers"
	case strings.HasPrefix(name, "Run "):
		v.command = true
	}
	return v
}

func (p *progress) move(st *client.VertexStatus) {
	at := p.vertices[st.Vertex]
	if at != nil && st.Name == inContainer {
		at.meter = &meter{root: cgroupRoot, cgroup: filepath.Join(p.cgroup, "buildkit", st.ID)}
		return
	}
	if at == nil || at.hidden || st.Timestamp.Sub(at.moved) < moveInterval {
		return
	}
	at.moved = st.Timestamp
	at.state.Current, at.state.Total = st.Current, st.Total
	p.say(bindery.Event{Phase: bindery.PhaseBuilding, Step: new(at.state)})
}

// log gathers what a step prints into whole lines: programs write to their error output word by word.
func (p *progress) log(l *client.VertexLog) {
	at := p.vertices[l.Vertex]
	if at == nil {
		return
	}
	at.tail = append(at.tail, l.Data...)
	at.tail = at.tail[max(0, len(at.tail)-mostTail):]
	// At once: what failed may free its files in a moment.
	if !p.wasFull && saysNoSpace(string(at.tail[max(0, len(at.tail)-len(l.Data)-32):])) {
		p.wasFull = p.full()
	}
	at.part = append(at.part, l.Data...)
	end := bytes.LastIndexByte(at.part, '\n') + 1
	if end == 0 && len(at.part) > mostTail {
		end = len(at.part)
	}
	p.print(at.part[:end])
	at.part = slices.Clone(at.part[end:])
}

// rest prints what a step left without a newline.
func (p *progress) rest(at *vertex) {
	if len(at.part) > 0 {
		p.print(append(at.part, '\n'))
		at.part = nil
	}
}

func (p *progress) print(b []byte) {
	if len(b) == 0 || p.logged > mostLog {
		return
	}
	p.logged += len(b)
	text := strings.ToValidUTF8(string(b), "\uFFFD")
	if p.logged > mostLog {
		text += "[The rest of the log is left out: the build prints too much.]\n"
	}
	p.say(bindery.Event{Phase: bindery.PhaseBuilding, Message: text})
}

// said are the last lines of a step.
func (v *vertex) said() string {
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(v.tail), "?")), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// steps counts the commands.
func (p *progress) steps() bindery.Steps {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n bindery.Steps
	for _, v := range p.vertices {
		switch {
		case !v.command || v.state.Started.IsZero():
		case v.state.Cached:
			n.Cached++
		default:
			n.Run++
		}
	}
	return n
}
