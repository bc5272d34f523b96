package bindery_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
)

func TestMovesStayInsideTheStates(t *testing.T) {
	for _, s := range bindery.BuildStates() {
		for _, next := range bindery.BuildMoves(s) {
			if !slices.Contains(bindery.BuildStates(), next) || next == s {
				t.Errorf("a build may go from %s to %s", s, next)
			}
		}
	}
	for _, s := range bindery.SessionStates() {
		for _, next := range bindery.SessionMoves(s) {
			if !slices.Contains(bindery.SessionStates(), next) || next == s {
				t.Errorf("a session may go from %s to %s", s, next)
			}
		}
	}
}

func TestBuildKey(t *testing.T) {
	a := bindery.Source{Provider: "git", URL: "https://h/o/r.git", Ref: "main", Commit: strings.Repeat("1", 40)}
	same := a
	same.URL, same.Ref = "https://h/o/r", "v1"
	if bindery.BuildKey(a, "g") != bindery.BuildKey(same, "g") {
		t.Error("the same commit of the same repository has two keys")
	}
	for name, other := range map[string]bindery.Source{
		"commit": {Provider: "git", URL: a.URL, Commit: strings.Repeat("2", 40)},
		"subdir": {Provider: "git", URL: a.URL, Commit: a.Commit, Subdir: "x"},
		"host":   {Provider: "git", URL: "https://other/o/r.git", Commit: a.Commit},
	} {
		if bindery.BuildKey(a, "g") == bindery.BuildKey(other, "g") {
			t.Errorf("another %s has the same key", name)
		}
	}
	if bindery.BuildKey(a, "g") == bindery.BuildKey(a, "h") {
		t.Error("another generation has the same key")
	}
	if bindery.Key("k", "ab", "c") == bindery.Key("k", "a", "bc") {
		t.Error("the parts of a key run together")
	}
}

func TestErrors(t *testing.T) {
	err := fmt.Errorf("fetch: %w", bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Try again.", "No answer from %s", "host").Because(io.ErrUnexpectedEOF))
	if !errors.Is(err, bindery.ErrUnreachable) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, bindery.ErrTimeout) {
		t.Errorf("errors.Is is wrong about %v", err)
	}
	if e := bindery.AsError(err); e.Fault != bindery.Transient || e.Msg != "No answer from host" {
		t.Errorf("AsError = %#v", e)
	}
	e := bindery.AsError(errors.New("dial /var/lib/secret"))
	if e.Kind != bindery.ErrInternal || e.Fault != bindery.Ours || strings.Contains(e.Msg, "secret") || e.Remedy == "" {
		t.Errorf("AsError of an unknown error = %#v", e)
	}
	if bindery.AsError(nil) != nil {
		t.Error("AsError(nil) is not nil")
	}
}

func TestMessagesInParts(t *testing.T) {
	for msg, want := range map[string][3]string{
		"":                            {"", "", ""},
		"No answer":                   {"No answer", "", "No answer"},
		"Is it there?\n":              {"Is it there?", "", "Is it there?"},
		"\"x\" failed:\n  a\n\n b \n": {`"x" failed`, "  a\n\n b", `"x" failed: b`},
	} {
		e := &bindery.Error{Msg: msg}
		if got := [3]string{e.What(), e.Lines(), e.Brief()}; got != want {
			t.Errorf("%q is %q, want %q", msg, got, want)
		}
	}
}
