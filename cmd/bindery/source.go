package main

import (
	"cmp"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// sourceArgs say what to build.
type sourceArgs struct {
	Repo   string `arg:"" help:"A directory, the URL of a Git repository, a DOI, or swh:1:rev:…"`
	Ref    string `help:"Branch, tag or commit (default: the default branch)." placeholder:"REF"`
	Subdir string `help:"Build this directory of the repository." placeholder:"DIR"`
	Base   string `help:"What to build on: debian:SUITE or an image (default ${base})." placeholder:"BASE" env:"BINDERY_BASE"`
}

// source reads the arguments. A directory that exists is taken as it is; with a ref, or when it is a bare repository,
// it is cloned like any other.
func (s sourceArgs) source(providers []bindery.Provider) (bindery.Source, error) {
	subdir, err := bindery.CleanSubdir(s.Subdir)
	if err != nil {
		return bindery.Source{}, err
	}
	if s.Repo == "" || strings.ContainsRune(s.Repo, 0) {
		return bindery.Source{}, usagef("REPO is empty")
	}
	src, err := s.local()
	if err == nil && src.URL == "" {
		src, err = archived(s.Repo, providers)
	}
	if err == nil && src.URL == "" {
		src, err = bindery.ParseGitSource(s.Repo, s.Ref)
		if err != nil && !strings.Contains(s.Repo, "://") {
			err = bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Name a directory, or a URL like https://host/owner/repository.",
				"There is no directory %q, and it is no URL", bindery.Printable(s.Repo))
		}
	}
	src.Subdir = subdir
	return src, err
}

// local returns the source for a directory of this machine; none when there is no such directory.
func (s sourceArgs) local() (bindery.Source, error) {
	info, err := os.Stat(s.Repo)
	if err != nil || strings.Contains(s.Repo, "://") {
		return bindery.Source{}, nil //nolint:nilerr // then it is a URL, or nothing
	}
	if !info.IsDir() {
		return bindery.Source{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name the directory that holds it.", "%q is a file", bindery.Printable(s.Repo))
	}
	dir, err := filepath.Abs(s.Repo)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return bindery.Source{}, err
	}
	if s.Ref != "" || isBare(dir) {
		if !isBare(dir) && !exists(filepath.Join(dir, ".git")) {
			return bindery.Source{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Leave out --ref: the directory is taken as it is.",
				"%q is not a Git repository, so it has no ref", bindery.Printable(s.Repo))
		}
		return bindery.ParseGitSource((&url.URL{Scheme: "file", Path: dir}).String(), s.Ref)
	}
	return bindery.Source{Provider: bindery.ProviderLocal, URL: dir}, nil
}

// archived returns the source for a DOI or its like; none when repo is neither.
func archived(repo string, providers []bindery.Provider) (bindery.Source, error) {
	kind := ""
	switch doi := doiStartRE.ReplaceAllString(repo, ""); {
	case strings.HasPrefix(repo, "swh:"):
		kind = bindery.ProviderSWH
	case !strings.HasPrefix(doi, "10."):
		return bindery.Source{}, nil
	case strings.Contains(doi, "/zenodo."):
		kind = bindery.ProviderZenodo
	case strings.Contains(doi, "figshare."):
		kind = bindery.ProviderFigshare
	case strings.Contains(doi, "/hs."):
		kind = bindery.ProviderHydroshare
	default:
		kind = bindery.ProviderDataverse // of which there are many, under prefixes of their own
	}
	for _, p := range providers {
		if p.Kind == kind {
			return p.ParseSpec(repo)
		}
	}
	return bindery.Source{}, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Turn it on under providers in the configuration.", "The provider %s is off", kind)
}

var doiStartRE = regexp.MustCompile(`(?i)^(doi:|(https?://)?(dx\.)?doi\.org/)`)

// isBare reports whether dir is a Git repository without a working tree.
func isBare(dir string) bool {
	return exists(filepath.Join(dir, "HEAD")) && exists(filepath.Join(dir, "objects")) && exists(filepath.Join(dir, "refs"))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

func sortBy[T any, K cmp.Ordered](all []T, key func(T) K) {
	slices.SortStableFunc(all, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}
