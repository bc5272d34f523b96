package worker

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// maxSocket is how long the name of a socket may be; the kernel's limit is 108 with the final NUL.
const maxSocket = 100

// short calls f with a name of path that the kernel takes: directories may be deep, socket names may not.
func short[T any](path string, f func(string) (T, error)) (T, error) {
	if len(path) <= maxSocket {
		return f(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		var none T
		return none, err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	return short(socket, func(name string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", name)
	})
}

// listen opens the socket for its owner only. It stays when the listener is closed: the next worker removes it.
func listen(socket string) (net.Listener, error) {
	l, err := short(socket, func(name string) (*net.UnixListener, error) {
		return net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name})
	})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(socket, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}
