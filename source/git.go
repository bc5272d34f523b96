package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// An op is one Resolve or Fetch: a ticket for the guard, and where progress goes.
type op struct {
	s      *Sources
	ticket *ticket
	say    func(string)
}

func (o *op) end() { o.s.guard.dismiss(o.ticket) }

// gitBasics is what holds for every repository. It wants two words: whether git may read files, and speak ssh.
const gitBasics = `[core]
	hooksPath = /dev/null
	fsync = none
	bigFileThreshold = 16m
	packedGitLimit = 256m
[protocol]
	allow = never
[protocol "http"]
	allow = always
[protocol "https"]
	allow = always
[protocol "file"]
	allow = %s
[protocol "ssh"]
	allow = %s
[transfer]
	fsckObjects = true
	unpackLimit = 1
[fetch]
	writeCommitGraph = false
	showForcedUpdates = false
[gc]
	auto = 0
[maintenance]
	auto = false
[http]
	followRedirects = initial
	proxyAuthMethod = basic
	lowSpeedLimit = 100
	lowSpeedTime = 120
[credential]
	helper =
[advice]
	detachedHead = false
	fetchShowForcedUpdates = false
[init]
	defaultBranch = main
[safe]
	directory = *
[submodule]
	recurse = false
[checkout]
	workers = 0
	thresholdForParallelism = 1000
[repack]
	updateServerInfo = false
[pack]
	windowMemory = 64m
`

// gitConfig is the only configuration that git reads beside the repository's own, which we write as well.
func (s *Sources) gitConfig() string {
	var b strings.Builder
	file := "never"
	if len(s.cfg.Policy.Dirs) > 0 {
		file = "always" // of the box's directories, which are the allowed ones
	}
	ssh := "never"
	if len(s.cfg.Policy.SSH.Keys) > 0 {
		ssh = "always" // to the hosts that the guard knows keys for
	}
	fmt.Fprintf(&b, gitBasics, file, ssh)
	b.WriteString(fsckConfig())
	b.WriteString(credentialConfig(s.cfg.Providers))
	if s.lfs {
		b.WriteString(lfsConfig())
	}
	return b.String()
}

// fsckConfig lets harmless mistakes of old programs pass, which many public repositories contain for ever.
func fsckConfig() string {
	var b strings.Builder
	b.WriteString("[fetch \"fsck\"]\n")
	for _, id := range []string{"zeroPaddedFilemode", "missingSpaceBeforeDate", "badTimezone", "badDate", "badDateOverflow", "zeroPaddedDate",
		"badFilemode", "badEmail", "missingEmail", "missingNameBeforeEmail", "badName", "missingTaggerEntry", "missingTypeEntry", "duplicateEntries", "gitmodulesParse"} {
		fmt.Fprintf(&b, "\t%s = ignore\n", id)
	}
	return b.String()
}

func lfsConfig() string {
	return "[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n\tprocess = git-lfs filter-process\n\trequired = true\n" +
		"[lfs]\n\tlocksverify = false\n\tconcurrenttransfers = 4\n"
}

// A call is one run of git.
type call struct {
	dir    string   // in the box; default: /
	args   []string // everything from outside comes after "--" or has been checked
	env    []string
	stdin  io.Reader
	stdout io.Writer // default: returned
	loud   bool      // its progress is said
}

// errGit is git's exit without success.
type errGit struct {
	verb   string
	stderr string
	err    error
}

func (e *errGit) Error() string {
	return fmt.Sprintf("git %s: %v: %s", e.verb, e.err, strings.TrimSpace(e.stderr))
}
func (e *errGit) Unwrap() error { return e.err }

// git runs git in the box. When ctx ends, all its processes are killed.
func (o *op) git(ctx context.Context, c call) (string, error) {
	cmd := exec.Command(o.s.git, c.args...)
	cmd.Dir, cmd.Env, cmd.Stdin = c.dir, append(o.s.box.env(o.ticket), c.env...), c.stdin
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	var out bytes.Buffer
	cmd.Stdout = &limited{w: &out, left: 64 << 20}
	if c.stdout != nil {
		cmd.Stdout = c.stdout
	}
	lines := &progress{}
	if c.loud {
		lines.say = o.say
	}
	cmd.Stderr = lines
	cmd.WaitDelay = 5 * time.Second
	if err := ctx.Err(); err != nil {
		return "", ended(ctx)
	}
	o.ticket.clear()
	if err := o.s.box.start(cmd); err != nil {
		return "", fmt.Errorf("start git: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	err := cmd.Wait()
	stop()
	lines.flush()
	if ctx.Err() != nil && err != nil {
		return "", ended(ctx)
	}
	if err == nil {
		return out.String(), nil
	}
	return out.String(), o.explain(&errGit{verb: c.args[0], stderr: lines.tail(), err: err})
}

// errTooMuch ends a git that says more than we read.
var errTooMuch = errors.New("git says too much")

type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errTooMuch
	}
	return l.w.Write(p)
}

// progress splits git's standard error into lines, says them, and keeps the last ones for an error.
type progress struct {
	say func(string)

	mu   sync.Mutex
	line []byte
	last []byte
	when time.Time
}

func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range b {
		if c != '\n' && c != '\r' {
			if len(p.line) < 1000 {
				p.line = append(p.line, c)
			}
			continue
		}
		p.emit(c == '\n')
	}
	return len(b), nil
}

func (p *progress) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.emit(true)
}

// emit ends a line. A line that another will overwrite is said at most every two seconds.
func (p *progress) emit(whole bool) {
	line := strings.TrimRight(bindery.Printable(strings.ToValidUTF8(string(p.line), "?")), " ")
	p.line = p.line[:0]
	if line == "" {
		return
	}
	if whole {
		p.last = append(append(p.last, line...), '\n')
		p.last = p.last[max(0, len(p.last)-8192):]
	}
	if p.say == nil || (!whole && time.Since(p.when) < 2*time.Second) {
		return
	}
	p.when = time.Now()
	p.say(line)
}

func (p *progress) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.last)
}
