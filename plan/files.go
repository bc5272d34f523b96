package plan

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"unicode/utf16"
	"unicode/utf8"

	bindery "github.com/bindery-hub/bindery"
)

// maxConfig is the size of the largest configuration file that is read. The largest real ones, lock files of Node
// projects, have one or two megabytes.
const maxConfig = 8 << 20

// stat returns nil for a file that does not exist, dangling symbolic links included.
func (d *detector) stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(d.fsys, name)
	if err == nil {
		return info, nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, nil
	}
	return nil, d.unreadable(name, err)
}

// exists reports whether there is a file called name. A directory of that name is no configuration.
func (d *detector) exists(name string) (bool, error) {
	info, err := d.stat(name)
	return info != nil && !info.IsDir(), err
}

// unreadable explains why a file that is there cannot be read: a link out of the repository, as a rule.
func (d *detector) unreadable(name string, err error) error {
	if info, lerr := fs.Lstat(d.fsys, name); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
		return userError("Put the file itself into the repository.", "%s is a symbolic link that leads nowhere inside the repository", name).Because(err)
	}
	// The parent may be such a link too.
	return userError("Make it an ordinary file that its owner may read.", "%s cannot be read", name).Because(err)
}

// read returns the bytes of a configuration file.
func (d *detector) read(name string) ([]byte, error) { return readFile(d.fsys, name, d.unreadable) }

func readFile(fsys fs.FS, name string, explain func(string, error) error) ([]byte, error) {
	// Not a mere Open: opening a pipe waits for its writer.
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, explain(name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, userError("Make it an ordinary file.", "%s is not an ordinary file", name)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, explain(name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, explain(name, err)
	}
	if len(data) > maxConfig {
		return nil, userError("Configuration files may have up to 8 MiB.", "%s is too large to be a configuration file", name)
	}
	return data, nil
}

// readText returns a configuration file as text.
func (d *detector) readText(name string) (string, error) {
	data, err := d.read(name)
	if err != nil {
		return "", err
	}
	text, _ := decode(data)
	return text, nil
}

// head returns the start of a file, or "" if it cannot be read.
func (d *detector) head(name string) string {
	info, err := fs.Stat(d.fsys, name)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := d.fsys.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, 256))
	return string(data)
}

// decode returns data as text, and Python's name of its encoding: empty for plain UTF-8. Files written by a
// PowerShell redirection are UTF-16.
func decode(data []byte) (text, encoding string) {
	switch {
	case bytes.HasPrefix(data, []byte{0xef, 0xbb, 0xbf}):
		return string(bytes.ToValidUTF8(data[3:], []byte("?"))), "utf-8-sig"
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		return decode16(data[2:], 0, 1), "utf-16"
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return decode16(data[2:], 1, 0), "utf-16"
	case utf8.Valid(data):
		return string(data), ""
	}
	runes := make([]rune, len(data))
	for i, b := range data {
		runes[i] = rune(b)
	}
	return string(runes), "latin-1"
}

// decode16 decodes UTF-16; lo and hi are the places of the two bytes in each pair.
func decode16(data []byte, lo, hi int) string {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = uint16(data[2*i+lo]) | uint16(data[2*i+hi])<<8
	}
	return string(utf16.Decode(units))
}

// printable quotes a piece of a repository's file for a message.
func printable(s string) string { return bindery.Printable(s) }
