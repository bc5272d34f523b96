package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Binder is a hub that speaks BinderHub's protocol, a Bindery or not.
type Binder struct {
	URL   string            // where it is, such as https://mybinder.org
	Token string            // sent as a bearer token, to this hub only
	Agent string            // User-Agent
	HTTP  http.RoundTripper // default: http.DefaultTransport
}

// A LaunchEvent is one event of a launch. The fields of the second group come with the phase ready; those of the third
// from a Bindery only.
type LaunchEvent struct {
	Phase      bindery.Phase `json:"phase"`
	Message    string        `json:"message"`
	StatusCode int           `json:"status_code,omitempty"`
	ImageName  string        `json:"imageName,omitempty"`

	URL               string `json:"url,omitempty"`
	Token             string `json:"token,omitempty"`
	Image             string `json:"image,omitempty"`
	RepoURL           string `json:"repo_url,omitempty"`
	RefURL            string `json:"binder_ref_url,omitempty"`
	LaunchHost        string `json:"binder_launch_host,omitempty"`
	Request           string `json:"binder_request,omitempty"`
	PersistentRequest string `json:"binder_persistent_request,omitempty"`

	Position int            `json:"position,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Run      *bindery.Run   `json:"run,omitempty"` // once it runs, where that is known
	Error    *bindery.Error `json:"error,omitempty"`
}

// Launch builds and launches a spec ("gh/owner/repository/ref"), and yields what the hub says, ready or failed last. A
// stream that breaks is opened again where that cannot start a second session: a Bindery goes on after the last event
// that it sent, another hub begins again as long as it only builds.
func (b Binder) Launch(ctx context.Context, spec string) iter.Seq2[LaunchEvent, error] {
	return func(yield func(LaunchEvent, error) bool) {
		l := &binderLaunch{b: b, spec: spec, id: rand.Text()}
		for tries := 0; ; tries++ {
			before := l.seen
			over, err := l.once(ctx, yield)
			if over {
				return
			}
			if l.seen > before {
				tries = 0
			}
			// A hub that has said nothing yet may be none: somebody waits to hear of it.
			if !again(err) || ctx.Err() != nil || tries >= binderTries || (l.seen == 0 && tries > 0) || (l.last == "" && l.launching) {
				yield(LaunchEvent{}, cmp.Or(ctx.Err(), err))
				return
			}
			select {
			case <-ctx.Done():
				yield(LaunchEvent{}, ctx.Err())
				return
			case <-time.After(reconnectGap << min(tries, 4)):
			}
		}
	}
}

// binderTries is how often in a row a hub is asked that does not answer.
const binderTries = 6

// A binderLaunch is one launch over all its connections.
type binderLaunch struct {
	b         Binder
	spec, id  string
	last      string // id of the last event; only a Bindery gives any
	seen      int
	launching bool
}

// once reads one connection. It returns whether all is said, else what broke.
func (l *binderLaunch) once(ctx context.Context, yield func(LaunchEvent, error) bool) (over bool, err error) {
	resp, err := l.open(ctx)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	broken := bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Ask again.", "The hub closed the stream before the launch was over")
	for m, err := range ReadStream(resp.Body) {
		if err != nil {
			return false, broken.Because(err)
		}
		var e LaunchEvent
		if err := json.Unmarshal([]byte(m.Data), &e); err != nil {
			yield(e, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Check the hub's URL.", "The hub sends something that no Binder does").Because(err))
			return true, nil
		}
		e.Phase = bindery.Phase(strings.ToLower(string(e.Phase)))
		l.seen++
		l.last = cmp.Or(m.ID, l.last)
		l.launching = l.launching || e.Phase == bindery.PhaseBuilt || e.Phase == bindery.PhaseLaunching
		// BinderHub sends a failed event without a word before the one that says why.
		if e.Phase == bindery.PhaseFailed && e.Message == "" {
			continue
		}
		if !yield(e, nil) || e.Phase == bindery.PhaseReady || e.Phase == bindery.PhaseFailed {
			return true, nil
		}
	}
	return false, broken
}

// open asks for the stream. The two parameters are a Bindery's: others do not read them.
func (l *binderLaunch) open(ctx context.Context) (*http.Response, error) {
	at := strings.TrimRight(l.b.URL, "/") + "/build/" + l.spec + "?" + url.Values{"ids": {"1"}, "request": {l.id}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give the URL of a hub and a spec such as gh/owner/repository/HEAD.", "%q cannot be launched", bindery.Printable(l.spec)).Because(err)
	}
	req.Header.Set("Accept", "text/event-stream") // this very text: BinderHub compares it
	req.Header.Set("User-Agent", cmp.Or(l.b.Agent, "bindery-launch/1"))
	if l.b.Token != "" {
		req.Header.Set("Authorization", "Bearer "+l.b.Token) // a redirect to another host drops it
	}
	if l.last != "" {
		req.Header.Set("Last-Event-Id", l.last)
	}
	resp, err := (&http.Client{Transport: l.b.HTTP}).Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the address, which is long and says nothing more
		}
		return nil, bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Check the hub's URL, and that it runs.", "The hub at %s does not answer", bindery.Printable(l.b.URL)).Because(err)
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // what is none is no event stream
	if resp.StatusCode == http.StatusOK && media == "text/event-stream" {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
		return nil, bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Try again later.", "The hub answers %s", resp.Status)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
	return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Check the hub's URL.", "There is no Binder at %s: it answers %s, %s", bindery.Printable(l.b.URL), resp.Status, bindery.Printable(media))
}

// A LaunchLink is what a person names to be launched.
type LaunchLink struct {
	Hub  string // empty: the link did not say
	Spec string
	Path string // in the session; empty: its start page
}

// ParseLaunchLink reads a launch link of any hub, a spec, or the URL of a repository, which ref is of. The hub of a link
// is the link's.
func ParseLaunchLink(text, ref string, providers []bindery.Provider) (LaunchLink, error) {
	wrong := bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a launch link, the URL of a repository, or a spec such as gh/owner/repository/HEAD.",
		"%q cannot be launched", bindery.Printable(text))
	u, err := url.Parse(text)
	if err != nil {
		return LaunchLink{}, wrong.Because(err)
	}
	if u.Scheme == "" {
		id, raw, ok := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "v2/"), "/")
		if !ok || id == "" || u.Host != "" || raw == "" || u.RawQuery != "" || climbs(u.EscapedPath()) {
			return LaunchLink{}, wrong
		}
		return LaunchLink{Spec: id + "/" + raw}, nil
	}
	if u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/") { // a hub may allow some directories of its machine
		return repositoryLink(u, ref, nil)
	}
	if (u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ssh" && u.Scheme != "git") || u.Host == "" {
		return LaunchLink{}, wrong
	}
	if base, spec, ok := strings.Cut(u.EscapedPath(), "/v2/"); ok && strings.Count(spec, "/") > 0 {
		if climbs(spec) {
			return LaunchLink{}, wrong
		}
		return LaunchLink{Hub: u.Scheme + "://" + u.Host + base, Spec: spec, Path: pathOf(u.Query())}, nil
	}
	return repositoryLink(u, ref, providers)
}

// climbs reports whether a spec would lead to another route of the hub than launches have.
func climbs(spec string) bool {
	return slices.ContainsFunc(strings.Split(spec, "/"), func(part string) bool {
		part = strings.ReplaceAll(strings.ToLower(part), "%2e", ".")
		return part == ".." || part == "."
	})
}

// repositoryLink finds the provider whose pages a URL is one of, else takes the URL for one of a Git server.
func repositoryLink(u *url.URL, ref string, providers []bindery.Provider) (LaunchLink, error) {
	src, err := bindery.ParseGitSource(u.String(), ref)
	if err != nil {
		return LaunchLink{}, err
	}
	for _, p := range providers {
		if p.Kind != bindery.ProviderGitHub && p.Kind != bindery.ProviderGitLab {
			continue
		}
		name, below := strings.CutPrefix(strings.TrimRight(src.URL, "/"), p.URL+"/")
		name = strings.TrimSuffix(name, ".git")
		if p.Kind == bindery.ProviderGitHub && strings.Count(name, "/") != 1 {
			continue
		}
		if below && p.Kind == bindery.ProviderGitHub {
			return LaunchLink{Spec: p.ID + "/" + name + "/" + cmp.Or(ref, "HEAD")}, nil
		}
		if below {
			return LaunchLink{Spec: p.ID + "/" + url.PathEscape(name) + "/" + url.PathEscape(cmp.Or(ref, "HEAD"))}, nil
		}
	}
	return LaunchLink{Spec: fmt.Sprintf("%s/%s/%s", bindery.ProviderGit, url.QueryEscape(src.URL), url.PathEscape(cmp.Or(ref, "HEAD")))}, nil
}

// pathOf is where in the session a launch link leads to: labpath, then filepath, then urlpath.
func pathOf(q url.Values) string {
	switch {
	case q.Get("labpath") != "":
		return FilePath(q.Get("labpath"))
	case q.Get("filepath") != "":
		return "tree/" + escapePath(q.Get("filepath"))
	}
	return strings.TrimLeft(q.Get("urlpath"), "/")
}

// FilePath is where JupyterLab opens a file.
func FilePath(file string) string { return "doc/tree/" + escapePath(file) }

func escapePath(file string) string { return (&url.URL{Path: strings.Trim(file, "/")}).EscapedPath() }

// SessionLink is the URL that opens a session at a path, with its token. A path that leads out of the session is
// refused: the token would go with it.
func SessionLink(e LaunchEvent, path string) (string, error) {
	home, err := url.Parse(e.URL)
	if err != nil || (home.Scheme != "http" && home.Scheme != "https") || home.Host == "" {
		return "", bindery.Errorf(bindery.ErrInvalid, bindery.User, "Check the hub's URL.", "The hub gives a session at %q, which is no URL", bindery.Printable(e.URL))
	}
	to, err := home.Parse(path)
	if err != nil || to.Host != home.Host || to.Scheme != home.Scheme || !strings.HasPrefix(to.EscapedPath(), home.EscapedPath()) {
		return "", bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a path inside the session, such as lab/tree/index.ipynb.", "%q leads out of the session", bindery.Printable(path))
	}
	q := to.Query()
	q.Set("token", e.Token)
	to.RawQuery = q.Encode()
	return to.String(), nil
}
