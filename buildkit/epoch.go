package buildkit

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/moby/buildkit/client/llb"
	"golang.org/x/sys/unix"
)

// Equal inputs make equal images, whenever that is: no layer shows when it was made. Steps are told so by the variable
// that many programs know (compiled Python then holds a sum of its source instead of its time), and what they date by the
// clock all the same is set back after them. A Dockerfile's steps are left alone: they are not told.

// epochVariable is https://reproducible-builds.org/docs/source-date-epoch.
const epochVariable = "SOURCE_DATE_EPOCH"

// epoch is the date of everything that a build writes. Archives cannot have one before 1980.
func epoch() time.Time { return time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC) }

func epochText() string { return strconv.FormatInt(epoch().Unix(), 10) }

// dated gives the date to a copy of files.
func dated(info llb.CopyInfo) *llb.CopyInfo {
	at := epoch()
	info.CreatedTime = &at
	return &info
}

// setClock dates what a step that began then has written by the clock. Files that it has from an archive keep the date
// that they have there.
func (r *stepRoot) setClock(began time.Time) error {
	began = began.Add(-time.Second) // the kernel's clock for files is a coarse one
	at := unix.NsecToTimespec(epoch().UnixNano())
	for _, dir := range r.upper {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil || info.ModTime().Before(began) {
				return err
			}
			return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("date a step's files: %w", err)
		}
	}
	return nil
}
