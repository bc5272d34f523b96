package web

import (
	"errors"
	"io/fs"
	"slices"
)

// Overlay is the embedded pages with an operator's own files over them: a file of the same name in templates/ or
// static/ replaces ours, one of another name is added. static/extra.css and static/extra.js are part of every page.
func Overlay(own fs.FS) fs.FS { return overlay{own, embedded} }

type overlay struct{ own, ours fs.FS }

// Open prefers the operator's file.
func (o overlay) Open(name string) (fs.File, error) {
	f, err := o.own.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return o.ours.Open(name)
	}
	return f, err
}

// ReadDir lists both, each name once.
func (o overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	own, err := fs.ReadDir(o.own, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ours, err := fs.ReadDir(o.ours, name)
	if err != nil && (own == nil || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	for _, e := range ours {
		if !slices.ContainsFunc(own, func(x fs.DirEntry) bool { return x.Name() == e.Name() }) {
			own = append(own, e)
		}
	}
	return own, nil
}
