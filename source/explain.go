package source

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"syscall"

	bindery "github.com/bindery-hub/bindery"
)

// ended says why ctx is over, as an error for the person.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return bindery.Errorf(bindery.ErrTimeout, bindery.Transient, "Try again later; if it happens again, the repository or its server is too slow.",
			"Reading the repository took too long").Because(ctx.Err())
	}
	return bindery.Errorf(bindery.ErrCancelled, bindery.User, "", "Reading the repository was cancelled").Because(context.Cause(ctx))
}

// A reading maps what git says to what it means. The first that matches counts.
type reading struct {
	says   *regexp.Regexp
	kind   bindery.Kind
	fault  bindery.Fault
	msg    string
	remedy string
}

// readings are git's messages in the C locale, of versions 2.30 to 2.50.
func readings() []reading {
	const private = "Check the address. If the repository is private, make it public or use another copy: this hub reads public repositories only."
	return []reading{
		{re(`(?i)gitmodules(Url|Path|Name|Symlink|Blob|Missing|Large)|hasDot|fullPathname|hasDotdot|hasDotgit|symlinkTarget`), bindery.ErrNotAllowed, bindery.User,
			"The repository contains an entry that git refuses as dangerous", "Remove the entry from the history that is used; `git fsck --strict` names it."},
		{re(`fsck error|error in (commit|tree|tag|blob)|bad object|fatal: (index-pack|fetch-pack)|unpacker error|inflate:|corrupt`), bindery.ErrInvalid, bindery.User,
			"The repository contains an object that git refuses", "`git fsck --strict` in a clone names it."},
		{re(`smudge filter lfs failed|git-lfs|Error downloading object|LFS:`), bindery.ErrInvalid, bindery.User,
			"A file in Git LFS cannot be downloaded", "Check that the file is on the LFS server, that it is public and that the bandwidth is not used up."},
		{re(`(?i)not our ref|couldn't find remote ref|unadvertised object|no such remote ref|not a valid object name|unknown revision`), bindery.ErrRefNotFound, bindery.User,
			"The repository has no such ref", "Check the name of the branch, tag or commit."},
		{re(`(?i)authentication (failed|required)|could not read (username|password)|terminal prompts disabled|error: (401|403)|HTTP 40[13]|access denied`), bindery.ErrRepoNotFound, bindery.User,
			"The repository does not exist, or it is private", private},
		{re(`(?i)repository '.*' not found|error: 404|HTTP 404|does not appear to be a git repository|does not exist|unable to access '.*': .*returned error: 410|not valid: is this a git repository|repository not exported`),
			bindery.ErrRepoNotFound, bindery.User, "There is no Git repository at this address", private},
		{re(`(?i)transport '.*' not allowed`), bindery.ErrNotAllowed, bindery.User,
			"The repository is to be read by a protocol that is not allowed here", "Use the https URL of the repository."},
		{re(`(?i)SSL|TLS|certificate`), bindery.ErrUnreachable, bindery.Transient,
			"No secure connection to the server of the repository can be made", "Check the address; if the server's certificate is not from a public authority, the operator has to add it."},
		{re(`(?i)Could not resolve|Failed to connect|Connection (refused|reset|timed out)|Operation timed out|Operation too slow|early EOF|hung up unexpectedly|RPC failed|returned error: (5|429)|Empty reply|from proxy after CONNECT|transfer closed|remote error|expected flush|invalid (server )?response|bad line length|protocol error|unable to access`),
			bindery.ErrUnreachable, bindery.Transient, "The server of the repository does not answer as it should", "Check the address; try again later."},
	}
}

func re(s string) *regexp.Regexp { return regexp.MustCompile(s) }

// What git itself says of a full disk counts: not the lines that a server chooses, nor names that end so.
var (
	serversRE  = re(`(?m)^(?:remote:|fatal: remote error:).*$`)
	ownSpaceRE = re(`(?m)^(?:fatal|error): .*: (?:No space left on device|Disk quota exceeded)$`)
)

func fullDisk() *bindery.Error {
	return bindery.Errorf(bindery.ErrNoSpace, bindery.Ours, "Try again later; the operator has to free space.", "The disk of this machine is full")
}

// explain makes of git's failure an error for the person. What the guard refused comes before what git made of it.
func (o *op) explain(err *errGit) error {
	if e := o.ticket.reason(); e != nil {
		return e
	}
	if errors.Is(err, errTooMuch) {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use a repository with fewer refs and files.", "The repository is larger than this hub allows").Because(err)
	}
	if ownSpaceRE.MatchString(serversRE.ReplaceAllString(err.stderr, "")) {
		return fullDisk().Because(err)
	}
	for _, r := range readings() {
		if r.says.MatchString(err.stderr) {
			return bindery.Errorf(r.kind, r.fault, r.remedy, "%s", r.msg).Because(err)
		}
	}
	return err
}

// spaceOr returns err as ErrNoSpace when a full disk is its cause.
func spaceOr(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fullDisk().Because(err)
	}
	return err
}

// unexpected reports whether err may come from a damaged cache: git failed over objects, or for no known reason.
func unexpected(err error) bool {
	_, git := errors.AsType[*errGit](err)
	e, known := errors.AsType[*bindery.Error](err)
	return errors.Is(err, os.ErrNotExist) || (git && (!known || e.Kind == bindery.ErrInvalid || e.Kind == bindery.ErrRefNotFound))
}

// withSpellings calls f with the URL as given, and when there is no repository, with the other spelling of its end:
// hosts differ in whether ".git" may be left out.
func withSpellings(u string, f func(string) error) error {
	err := f(u)
	if !errors.Is(err, bindery.ErrRepoNotFound) || strings.ContainsAny(u, "?#") {
		return err
	}
	bare := strings.TrimSuffix(u, "/")
	other, had := strings.CutSuffix(bare, ".git")
	if !had {
		other = bare + ".git"
	}
	if second := f(other); second == nil || errors.Is(second, bindery.ErrRefNotFound) {
		return second
	}
	return err
}
