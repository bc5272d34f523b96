package runc

import "github.com/opencontainers/runtime-spec/specs-go"

// For tests.
var (
	AtLeast       = atLeast
	RuntimeChecks = runtimeChecks
	KeepLog       = keepLog
	Environment   = environment
)

// Architectures are those that the filter of system calls lets programs be of.
func Architectures() []specs.Arch { return spec(container{}).Linux.Seccomp.Architectures }

// LookUp returns what lookUp does, in parts.
func LookUp(rootfs, user string) (uid, gid uint32, groups []uint32, home string, err error) {
	a, err := lookUp(rootfs, user)
	return a.uid, a.gid, a.groups, a.home, err
}

// ShimPID returns the process id of the shim of a session.
func (l *Launcher) ShimPID(id string) (int, bool) { return l.shim(id) }
