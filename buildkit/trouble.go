package buildkit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/moby/buildkit/util/grpcerrors"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// classify gives an error of the engine its kind. One that has a kind keeps it; one that nothing is known of is ours.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*bindery.Error](err); ok {
		return err
	}
	if saysNoSpace(err.Error()) {
		return noSpace().Because(err)
	}
	if e := trouble(err.Error()); e != nil {
		return e.Because(err)
	}
	return err
}

func noSpace() *bindery.Error {
	return bindery.Errorf(bindery.ErrNoSpace, bindery.Ours, "Free space on the worker's disk, or lower the limit of its cache.", "The worker's disk is full")
}

var noSpaceRE = regexp.MustCompile(`(?i)no space left on device|\benospc\b`)

// saysNoSpace reports whether a program says that a disk is full. What a repository runs may say so of a disk that is not.
func saysNoSpace(said string) bool { return noSpaceRE.MatchString(said) }

// nearlyFull is how little room, in bytes and files, a disk has on which something just met the end of it. Others may
// have freed some since.
const (
	nearlyFullBytes = 64 << 20
	nearlyFullFiles = 64
)

// isFull reports whether the engine's disk is full, or nearly.
func (e *Engine) isFull() bool {
	var st unix.Statfs_t
	if err := unix.Statfs(e.cfg.Dir, &st); err != nil {
		return false
	}
	return int64(st.Bavail)*st.Bsize < nearlyFullBytes || st.Files > 0 && st.Ffree < nearlyFullFiles
}

// diskFull reports whether a build failed since the disk was full: if its programs say so, and it was.
func (p *progress) diskFull(said string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return saysNoSpace(said) && (p.wasFull || p.full())
}

// ranOut reports whether the engine itself met the end of the disk, of which it may have freed since what it wrote. A
// Dockerfile, or the registry that it names, could word errors like that: there the kind counts, which only the kernel's
// have.
func (p *progress) ranOut(err error) bool {
	return strings.HasSuffix(err.Error(), unix.ENOSPC.Error()) && (!p.theirs || grpcerrors.Code(err) == codes.ResourceExhausted)
}

// trouble recognises what is nobody's mistake, or not allowed, in what a step said: a network that is away, a closed
// address. It names the line of the repository's that asks for it, if there is one.
func (p *progress) trouble(said string, err error) *bindery.Error {
	e := trouble(said)
	if e == nil {
		return nil
	}
	at := p.place(err)
	if at == "" && p.mentions != nil {
		at = p.mentions(serverOf(said))
	}
	e.Msg = at + e.Msg
	return e
}

func trouble(said string) *bindery.Error {
	low := strings.ToLower(said)
	if strings.Contains(low, errClosed.Error()) {
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Fetch from a public address; the operator can allow others.", "The build asks for something at an address that is not public")
	}
	if strings.Contains(low, "429 too many requests") || strings.Contains(low, "toomanyrequests") {
		return tooMany(said)
	}
	for _, s := range []string{
		"temporary failure resolving", "temporary failure in name resolution", "could not resolve host", "dns error", "failed to lookup address",
		"connection refused", "connection timed out", "operation timed out", "network is unreachable", "no route to host", "tls handshake timeout",
		"i/o timeout", "could not connect to", "couldn't connect to", "name or service not known", "connection reset by peer", "unable to connect", "503 service unavailable",
		"502 bad gateway", "no such host", "server misbehaving",
	} {
		if strings.Contains(low, s) {
			return bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Try again later; the operator can check the worker's network with bindery doctor.",
				"%s could not be reached", server(said))
		}
	}
	return nil
}

// server names the server that a program could not reach, to a person.
func server(said string) string {
	if host := serverOf(said); host != "" {
		return "The server " + bindery.Printable(host) + ", which the build needs,"
	}
	return "A server that the build needs"
}

// serverREs find the server that programs could not reach in what they say: Go's, curl's, apt's, pip's and uv's words.
var serverREs = []*regexp.Regexp{
	regexp.MustCompile(`(?i)could not resolve host: ([\w.-]+)`),
	regexp.MustCompile(`unable to look up ([\w.-]+) `),
	regexp.MustCompile(`(?i)failed to connect to ([\w.-]+) port`),
	regexp.MustCompile(`(?i)temporary failure resolving '([\w.-]+)'`),
	regexp.MustCompile(`(?i)could not connect to ([\w.-]+):\d`),
	regexp.MustCompile(`host='([\w.-]+)'`),
	regexp.MustCompile(`\blookup ([\w.-]+)(?: on |: )`),
	regexp.MustCompile(`\bdial tcp ([\w.-]+|\[[0-9a-f:]+\]):\d`),
	regexp.MustCompile(`https?://(?:[^/\s@]*@)?([\w.-]+|\[[0-9a-f:]+\])`),
}

// serverOf returns the host that said is about, or "".
func serverOf(said string) string {
	for _, re := range serverREs {
		if m := re.FindAllStringSubmatch(said, -1); m != nil {
			return strings.TrimSuffix(m[len(m)-1][1], ".")
		}
	}
	return ""
}

// tooMany is a server's limit that is used up, most often that of pulls from a public registry.
func tooMany(said string) *bindery.Error {
	who := "A server that the build needs"
	if m := regexp.MustCompile(`https?://([^/\s"]+)/v2/`).FindStringSubmatch(said); m != nil {
		who = "The registry " + bindery.Printable(keyOf(m[1]))
	}
	return bindery.Errorf(bindery.ErrUnreachable, bindery.Transient,
		"Try again later; the operator can name a mirror or credentials for the registry in the configuration.", "%s takes no more requests for now: the limit is used up", who)
}

// mostMentions bounds what is read of one file of a repository to find a line.
const mostMentions = 1 << 20

// mentions finds the line of a job's files that names a host, like "requirements.txt, line 3: ".
func mentions(j plan.Job, host string) string {
	if host == "" {
		return ""
	}
	root, err := os.OpenRoot(j.Dir)
	if err != nil {
		return ""
	}
	defer func() { _ = root.Close() }() // only read
	for _, name := range j.Plan.Reads {
		info, err := root.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		f, err := root.Open(name)
		if err != nil {
			continue
		}
		n := lineNaming(f, host)
		_ = f.Close() // only read
		if n > 0 {
			return fmt.Sprintf("%s, line %d: ", bindery.Printable(name), n)
		}
	}
	return ""
}

// lineNaming returns the number of the first line that has host as that of an address, or 0.
func lineNaming(r io.Reader, host string) int {
	re := regexp.MustCompile(`(?i)(?:^|[/@])` + regexp.QuoteMeta(host) + `(?:$|[^\w.-])`)
	lines := bufio.NewScanner(io.LimitReader(r, mostMentions))
	for n := 1; lines.Scan(); n++ {
		if re.Match(lines.Bytes()) {
			return n
		}
	}
	return 0
}
