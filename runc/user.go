package runc

import (
	"bufio"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// account is whom a container runs as.
type account struct {
	uid, gid uint32
	groups   []uint32 // beside gid
	home     string
}

// lookUp resolves an image's USER ("name", "uid", each with ":group" or not) by its own passwd, group files. They are
// a stranger's: they are opened without leaving the root file system whatever links they are, only if they are regular
// files, and only their first megabyte is read.
func lookUp(rootfs, user string) (account, error) {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return account{}, err
	}
	defer root.Close()
	name, group, hasGroup := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	a := account{home: "/"}
	uid, numeric := number(name)
	found := false
	for fields := range lines(root, "etc/passwd", 7) {
		u, okU := number(fields[2])
		g, okG := number(fields[3])
		if !okU || !okG || fields[0] != name && (!numeric || u != uid) {
			continue
		}
		a.uid, a.gid, a.home, name, found = u, g, fields[5], fields[0], true
		break
	}
	if !found && !numeric {
		return account{}, noUser(user)
	}
	if !found {
		a.uid = uid
	}
	if hasGroup {
		a.gid, err = lookUpGroup(root, group)
		return a, err
	}
	for fields := range lines(root, "etc/group", 4) {
		g, ok := number(fields[2])
		if ok && g != a.gid && slices.Contains(strings.Split(strings.TrimSpace(fields[3]), ","), name) {
			a.groups = append(a.groups, g)
		}
	}
	return a, nil
}

func lookUpGroup(root *os.Root, group string) (uint32, error) {
	if g, ok := number(group); ok {
		return g, nil
	}
	for fields := range lines(root, "etc/group", 4) {
		if g, ok := number(fields[2]); ok && fields[0] == group {
			return g, nil
		}
	}
	return 0, noUser(":" + group)
}

func noUser(user string) error {
	return bindery.Errorf(bindery.ErrStep, bindery.User, "Give USER in the Dockerfile a name from /etc/passwd, or a number.", "The image has no user %q", user)
}

// number admits what the kernel admits: the largest value means "none".
func number(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n < math.MaxInt32
}

// lines yields the fields of each line of a passwd-like file that has at least so many. Without the file there are none.
func lines(root *os.Root, path string, fields int) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		f, err := root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe must not hold us up
		if err != nil {
			return
		}
		defer f.Close()
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			return
		}
		in := bufio.NewScanner(io.LimitReader(f, 1<<20))
		for in.Scan() {
			if parts := strings.Split(in.Text(), ":"); len(parts) >= fields && !yield(parts) {
				return
			}
		}
	}
}
