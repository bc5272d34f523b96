package bindery

import (
	"errors"
	"fmt"
	"strings"
)

// A Fault says whose failure an error is. The retry policy, the quotas and the pages read it.
type Fault string

const (
	User      Fault = "user"      // the repository or the request: do not retry, do not page anyone
	Transient Fault = "transient" // may pass: retry with a delay
	Ours      Fault = "ours"      // a bug or a broken machine: log and page
)

// A Kind is a sentinel error: test for it with errors.Is. Its text is also its name on the wire, in logs and in docs.
type Kind string

// Error returns the kind's name.
func (k Kind) Error() string { return string(k) }

// The kinds of failure. Each is born in one place; docs/errors.md says what each means to a person.
const (
	ErrInvalid      Kind = "invalid"     // a request that cannot mean anything: bad spec, bad flag, bad name
	ErrNotAllowed   Kind = "not-allowed" // a source, address or action that this hub refuses
	ErrRepoNotFound Kind = "repo-not-found"
	ErrRefNotFound  Kind = "ref-not-found"
	ErrUnreachable  Kind = "unreachable" // a host that cannot be reached
	ErrPlan         Kind = "plan"        // the repository's files ask for something impossible or contradictory
	ErrStep         Kind = "step"        // a command of the build failed
	ErrNoSpace      Kind = "no-space"    // the worker's disk is full
	ErrTimeout      Kind = "timeout"
	ErrCancelled    Kind = "cancelled"
	ErrNotReady     Kind = "not-ready" // the machine lacks something: root, runc, kernel features, a port
	ErrLocked       Kind = "locked"    // somebody else holds the state directory
	ErrSessionDied  Kind = "session-died"
	ErrOutOfMemory  Kind = "out-of-memory"
	ErrNotFound     Kind = "not-found" // no such build, session or image
	ErrConflict     Kind = "conflict"  // the same name is in use for something else
	ErrWorkerLost   Kind = "worker-lost"
	ErrRateLimit    Kind = "rate-limit" // one visitor asked too often
	ErrRepoQuota    Kind = "repo-quota" // all sessions that this repository may have are taken
	ErrHubQuota     Kind = "hub-quota"  // all sessions that this hub may have are taken
	ErrInternal     Kind = "internal"
)

// An Error is a failure with a kind to test for, an owner, and words for the person who meets it.
type Error struct {
	Kind   Kind   `json:"kind"`
	Fault  Fault  `json:"fault"`
	Msg    string `json:"message"`          // what happened, for the person; no secrets, no paths of ours
	Remedy string `json:"remedy,omitempty"` // what the person can do about it
	Err    error  `json:"-"`                // the cause, for the log; may be nil
}

// Error returns the message and, when there is one, the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	return e.Msg + ": " + e.Err.Error()
}

// Unwrap gives errors.Is both the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// What is the message without the lines of a log that may follow it.
func (e *Error) What() string {
	what, _, more := strings.Cut(strings.TrimRight(e.Msg, " \n"), "\n")
	if more {
		what = strings.TrimSuffix(what, ":")
	}
	return what
}

// Lines are the lines of a log in the message: the last that a step said.
func (e *Error) Lines() string {
	_, lines, _ := strings.Cut(strings.TrimRight(e.Msg, " \n"), "\n")
	return lines
}

// Brief is the message in one line, for tables. Of a log it has the last line, which most often says why.
func (e *Error) Brief() string {
	lines := e.Lines()
	if lines == "" {
		return e.What()
	}
	return e.What() + ": " + strings.TrimSpace(lines[strings.LastIndex(lines, "\n")+1:])
}

// Errorf makes an Error without a cause; Because adds one.
func Errorf(kind Kind, fault Fault, remedy, format string, args ...any) *Error {
	return &Error{Kind: kind, Fault: fault, Msg: fmt.Sprintf(format, args...), Remedy: remedy}
}

// Because sets the cause of e and returns e.
func (e *Error) Because(err error) *Error {
	e.Err = err
	return e
}

// AsError returns err as an *Error. An error that is not one is ours: Internal, with a message that tells nothing.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: ErrInternal, Fault: Ours, Msg: "Something went wrong on our side", Remedy: "Try again; if it happens again, tell the operator when it happened.", Err: err}
}
