package source

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// answers are what was resolved before, one small file each. They are not there to save questions, which the hub
// does, but to answer when nobody else can: a forge that is down or has had enough of us fails no launch of a ref that
// is known.
type answers struct{ dir string }

// An answer is one of them.
type answer struct {
	Source bindery.Source `json:"source"`
	ETag   string         `json:"etag,omitempty"` // of the API's answer
	Time   time.Time      `json:"time"`
}

const (
	staleFor    = 24 * time.Hour // an answer serves so long while there is no newer one to be had
	mostAnswers = 20_000
)

// key names the question, which has a ref or a DOI and no commit yet.
func (a answers) path(src bindery.Source) string {
	return filepath.Join(a.dir, bindery.Key("answer", src.Identity(), src.Ref)[:32]+".json")
}

func (a answers) get(src bindery.Source) (answer, bool) {
	var got answer
	text, err := os.ReadFile(a.path(src))
	if err != nil || json.Unmarshal(text, &got) != nil || !got.Source.IsPinned() {
		return answer{}, false
	}
	return got, true
}

// put keeps an answer. A failure is not the visitor's concern: the next question is asked again.
func (a answers) put(asked bindery.Source, got answer) {
	text, err := json.Marshal(got)
	if err != nil {
		return
	}
	f, err := os.CreateTemp(a.dir, "new-")
	if err != nil {
		return
	}
	_, err = f.Write(text)
	if closed := f.Close(); err != nil || closed != nil || os.Rename(f.Name(), a.path(asked)) != nil {
		_ = os.Remove(f.Name())
	}
}

// clean forgets the oldest.
func (a answers) clean() {
	entries, err := os.ReadDir(a.dir)
	if err != nil || len(entries) <= mostAnswers {
		return
	}
	age := func(e os.DirEntry) time.Time {
		info, err := e.Info()
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(entries, func(x, y os.DirEntry) int { return age(x).Compare(age(y)) })
	for _, e := range entries[:len(entries)-mostAnswers/2] {
		_ = os.Remove(filepath.Join(a.dir, e.Name()))
	}
}
