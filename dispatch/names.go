package dispatch

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"path"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// What ids begin with. The hub takes down sessions and builds of its own that it has no record of; it leaves those of
// `bindery run` and `bindery build` alone, which use the same worker and launcher.
const (
	hubSession = "s-"
	runSession = "r-"
	hubBuild   = "b-"
)

// RunID returns a new id for a session that a person's `bindery run` owns: no hub will touch it.
func RunID(src bindery.Source) string { return sessionID(runSession, src) }

// Token returns a new secret of 22 characters that are safe in a URL.
func Token() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// sessionID makes a name of at most 39 characters: what a person can recognise, then 80 bits that nobody can guess.
func sessionID(kind string, src bindery.Source) string {
	return kind + readable(src) + "-" + random()
}

// buildID makes an id that no other build has. Ids made one after the other are in order, to the millisecond, so that
// what is new lies together in the store: 40 bits of time, which come again after 34 years, and 60 that are random.
func buildID(now time.Time) string {
	var b [13]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<24)
	_, _ = rand.Read(b[5:]) // it never fails
	return hubBuild + strings.ToLower(base32.HexEncoding.EncodeToString(b[:]))[:20]
}

func random() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // it never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// readable is the last element of a repository's path in [a-z0-9-], at most 20 characters.
func readable(src bindery.Source) string {
	const most = 20
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, path.Base(src.Identity()))
	if len(name) > most {
		name = name[:most]
	}
	if name = strings.Trim(name, "-"); name == "" {
		return "repo"
	}
	return name
}
