package source

import (
	"errors"
	"testing"

	bindery "github.com/bindery-hub/bindery"
)

// What a server or a name says of a full disk makes none.
func TestDiskIsFull(t *testing.T) {
	for stderr, want := range map[string]bool{
		"fatal: write error: No space left on device\n":                                              true,
		"remote: Counting objects\nerror: unable to write file x: Disk quota exceeded\nfatal: end\n": true,
		"remote: fatal: write error: No space left on device\nfatal: early EOF\n":                    false,
		"fatal: remote error: write error: No space left on device\n":                                false,
		"fatal: repository 'https://h/: No space left on device' not found\n":                        false,
	} {
		err := (&op{ticket: &ticket{}}).explain(&errGit{verb: "fetch", stderr: stderr, err: errors.New("exit status 128")})
		if got := errors.Is(err, bindery.ErrNoSpace); got != want {
			t.Errorf("%q: got %v", stderr, err)
		}
	}
}
