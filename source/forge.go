package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Provider is a provider and this hub's access to it.
type Provider struct {
	bindery.Provider
	TokenFile   string // holds a token for its API and its Git server; read when it is needed
	User        string // that the token belongs to, for its Git server; default: what servers of its kind take
	SecretGists bool   // gists that are not listed are read too
}

// token reads the provider's token. It is never kept longer than a request.
func (p Provider) token() (string, error) {
	if p.TokenFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(p.TokenFile)
	token := strings.TrimSpace(string(text))
	if err == nil && (token == "" || strings.ContainsAny(token, " \t\r\n\x00")) {
		err = errors.New("it does not hold one token")
	}
	if err != nil {
		return "", bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "The operator has to repair the provider's token_file.",
			"The credentials of the provider %s cannot be read", p.ID).Because(err)
	}
	return token, nil
}

// A forge is a provider of Git repositories with an API that knows their refs.
type forge struct {
	Provider
	budget *budget
}

// openForges makes the forges of the configuration.
func (s *Sources) openForges() {
	for _, p := range s.cfg.Providers {
		switch p.Kind {
		case bindery.ProviderGitHub, bindery.ProviderGist, bindery.ProviderGitLab:
		default:
			continue
		}
		limit := 60 // what GitHub allows whoever does not say who they are
		if p.TokenFile != "" || p.Kind == bindery.ProviderGitLab {
			limit = 5000
		}
		// Gists are asked of the same API as the rest, by the same token: they share a budget.
		i := slices.IndexFunc(s.forges, func(f *forge) bool { return f.API == p.API && f.TokenFile == p.TokenFile })
		f := &forge{Provider: p}
		if i >= 0 {
			f.budget = s.forges[i].budget
		} else {
			f.budget = openBudget(filepath.Join(s.cfg.Dir, "asked-"+bindery.Key("api", p.API)[:16]+".json"), limit)
		}
		s.forges = append(s.forges, f)
	}
}

// GitHubLeft is how many questions GitHub's API said last that it still takes; 0 until it was asked.
func (s *Sources) GitHubLeft() int {
	select {
	case <-s.ready:
	default:
		return 0 // Run has not made the forges yet
	}
	for _, f := range s.forges {
		if f.ID == bindery.ProviderGitHub {
			f.budget.mu.Lock()
			defer f.budget.mu.Unlock()
			return f.budget.left
		}
	}
	return 0
}

// forgeOf returns the forge that has the repository of src, and its path there; nil when there is none. A gist may be named
// without its owner.
func (s *Sources) forgeOf(src bindery.Source) (*forge, []string) {
	if src.Provider != bindery.ProviderGit {
		return nil, nil
	}
	for _, f := range s.forges {
		path, ok := strings.CutPrefix(src.URL, f.URL+"/")
		if !ok || strings.ContainsAny(path, "?#%") {
			continue
		}
		parts := strings.Split(strings.TrimSuffix(strings.TrimSuffix(path, "/"), ".git"), "/")
		if len(parts) == 2 || (len(parts) > 2 && f.Kind == bindery.ProviderGitLab) || (len(parts) == 1 && parts[0] != "" && f.Kind == bindery.ProviderGist) {
			return f, parts
		}
	}
	return nil, nil
}

// errSpent says that the API is not to be asked, or has no use: the question goes to git.
var errSpent = errors.New("the forge's API is not to be asked now")

// resolveForge finds the commit of src at a forge: by its API while the budget lasts, else by git's own protocol, and
// when neither answers by what is known.
func (o *op) resolveForge(ctx context.Context, f *forge, parts []string, src bindery.Source) (bindery.Source, error) {
	old, known := o.s.answers.get(src)
	ownerless := len(parts) == 1 // git does not tell who it is
	led := func(to bindery.Source) bindery.Source {
		got := src
		if got.Commit = to.Commit; ownerless && to.URL != "" {
			got.URL = to.URL
		}
		return got
	}
	if known && bindery.IsCommit(src.Ref) && (!ownerless || old.Source.URL != src.URL) {
		return led(old.Source), nil
	}
	now := time.Now()
	got, err := o.askForge(ctx, f, parts, src, old)
	if definite(err) {
		return src, err
	}
	if err != nil {
		if !errors.Is(err, errSpent) {
			o.s.cfg.Log.WarnContext(ctx, "a forge's API is of no use; git is asked", "provider", f.ID, "err", err)
		}
		got = answer{Source: bindery.Source{URL: old.Source.URL}}
		got.Source.Commit, err = o.resolveByGit(ctx, src, known)
	}
	if err != nil {
		if known && !definite(err) && ctx.Err() == nil && now.Sub(old.Time) < staleFor {
			o.s.cfg.Log.WarnContext(ctx, "nobody answers; what is known of the ref serves", "repository", src.Identity(), "ref", src.Ref, "since", old.Time, "err", err)
			return led(old.Source), nil
		}
		return src, err
	}
	got.Source, got.Time = led(got.Source), now
	o.s.answers.put(src, got)
	return got.Source, nil
}

// resolveByGit asks the Git server. Somebody for whom we know an answer is not kept waiting for a dead one.
func (o *op) resolveByGit(ctx context.Context, src bindery.Source, known bool) (commit string, err error) {
	select {
	case o.s.asking <- struct{}{}:
		defer func() { <-o.s.asking }()
	case <-ctx.Done():
		return "", ended(ctx)
	}
	if known {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askTimeout)
		defer cancel()
	}
	err = withSpellings(src.URL, func(u string) error {
		commit, err = o.resolve(ctx, u, src)
		return err
	})
	return commit, err
}

// definite reports whether err is an answer and not the lack of one.
func definite(err error) bool {
	e, ok := errors.AsType[*bindery.Error](err)
	return ok && e.Fault == bindery.User && e.Kind != bindery.ErrCancelled
}

// askForge asks the API. It returns errSpent when it must not.
func (o *op) askForge(ctx context.Context, f *forge, parts []string, src bindery.Source, old answer) (answer, error) {
	special := shortRE().MatchString(src.Ref) && !bindery.IsCommit(src.Ref)
	if !f.budget.take(time.Now(), special) {
		return answer{}, errSpent
	}
	q := ask{url: f.question(parts, src.Ref), header: http.Header{"Accept": {"application/json"}}}
	token, err := f.token()
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		q.header.Set("Authorization", "Bearer "+token)
	}
	if old.ETag != "" {
		q.header.Set("If-None-Match", old.ETag)
	}
	r, err := o.s.guard.ask(ctx, q)
	if err != nil {
		f.budget.rest(time.Now())
		// An address that we refuse to talk to is the operator's to allow, and no reason to fail a launch.
		return answer{}, fmt.Errorf("ask %s: %s", f.API, err.Error())
	}
	f.budget.learn(r, time.Now())
	switch {
	case r.status == http.StatusNotModified && old.ETag != "":
		return old, nil
	case r.status == http.StatusOK:
		got := answer{ETag: r.header.Get("Etag")}
		got.Source, err = f.read(r, parts, src.Ref)
		return got, err
	case r.status == http.StatusNotFound && f.Kind == bindery.ProviderGitLab:
		// GitLab says the same of a project that is missing and of a ref.
		return answer{}, noRef(src.Ref)
	case r.status == http.StatusNotFound:
		return answer{}, bindery.Errorf(bindery.ErrRepoNotFound, bindery.User,
			"Check the address. If the repository is private, make it public or use another copy.", "%s has no such public repository", f.Name)
	case r.status == http.StatusUnprocessableEntity:
		return answer{}, noRef(src.Ref)
	case r.status == http.StatusForbidden || r.status == http.StatusTooManyRequests:
		return answer{}, errSpent
	}
	f.budget.rest(time.Now())
	return answer{}, fmt.Errorf("%s answered with status %d", f.API, r.status)
}

// question is the address that knows about a ref. Everything in it is one element of a path, whatever it contains.
func (f *forge) question(parts []string, ref string) string {
	if ref == "" {
		ref = "HEAD"
	}
	switch f.Kind {
	case bindery.ProviderGist:
		return f.API + "/gists/" + url.PathEscape(parts[len(parts)-1])
	case bindery.ProviderGitLab:
		return f.API + "/projects/" + url.PathEscape(strings.Join(parts, "/")) + "/repository/commits/" + url.PathEscape(ref)
	}
	return f.API + "/repos/" + url.PathEscape(parts[0]) + "/" + url.PathEscape(parts[1]) + "/commits/" + url.PathEscape(ref)
}

// read takes the commit out of an answer, and of a gist that was asked for without its owner where that has it.
func (f *forge) read(r reply, parts []string, ref string) (src bindery.Source, err error) {
	var got struct {
		SHA     string `json:"sha"`
		ID      string `json:"id"`
		Public  bool   `json:"public"`
		Owner   struct{ Login string }
		History []struct{ Version string }
	}
	if err := r.read(&got); err != nil {
		return src, err
	}
	src.Commit = got.SHA
	switch f.Kind {
	case bindery.ProviderGitLab:
		src.Commit = got.ID
	case bindery.ProviderGist:
		if len(parts) == 1 {
			owned, _ := f.ParseSpec(got.Owner.Login + "/" + parts[0]) // nobody's stays where it is
			src.URL = owned.URL
		} else if !strings.EqualFold(got.Owner.Login, parts[0]) {
			return src, bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Check the link.", "%s has no gist %s", bindery.Printable(parts[0]), bindery.Printable(parts[1]))
		}
		if !got.Public && !f.SecretGists {
			return src, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Make the gist public, or put its files into a repository.", "You seem to want to use a secret Gist, but do not have permission to do so")
		}
		versions := make([]string, len(got.History))
		for i, h := range got.History {
			versions[i] = h.Version
		}
		if src.Commit, err = pick(versions, ref); err != nil {
			return src, err
		}
	}
	if !bindery.IsCommit(src.Commit) {
		return src, unreachable("The API of %s gave an answer without a commit", f.Name)
	}
	return src, nil
}

// pick returns the version of a gist that ref names: the newest, or one by its name or the beginning of it.
func pick(versions []string, ref string) (string, error) {
	for _, v := range versions {
		if ref == "" || ref == "main" || ref == "master" || v == ref || (shortRE().MatchString(ref) && strings.HasPrefix(v, ref)) {
			return v, nil
		}
	}
	return "", noRef(ref)
}
