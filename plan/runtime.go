package plan

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A runtime is what runtime.txt says: NAME-VERSION, NAME-DATE or NAME-VERSION-DATE.
type runtime struct {
	file    string // empty without a runtime.txt
	name    string
	version string
	date    string
}

const runtimeRemedy = "Write one line such as python-3.11."

var versionRE = regexp.MustCompile(`^\d+(\.\d+)*$`)

// readRuntime parses runtime.txt if there is one, once.
func (d *detector) readRuntime() error {
	file, err := d.first("runtime.txt")
	if err != nil || file == "" || d.runtime.file == file {
		return err
	}
	text, err := d.readText(file)
	if err != nil {
		return err
	}
	r, err := parseRuntime(text)
	if err != nil {
		return userError(runtimeRemedy, "%s: %s", file, err)
	}
	r.file = file
	d.runtime = r
	return nil
}

// A grammarError is a mistake in one of the small languages read here, in words; the caller adds the place.
type grammarError string

func (e grammarError) Error() string { return string(e) }

// lineError is a grammarError of a line.
func lineError(line int, format string, args ...any) error {
	return grammarError(fmt.Sprintf("line %d: ", line) + fmt.Sprintf(format, args...))
}

// parseRuntime parses the text of a runtime.txt.
func parseRuntime(text string) (runtime, error) {
	text = strings.TrimSpace(text)
	if strings.ContainsAny(text, "\n\r") {
		return runtime{}, grammarError("has more than one line")
	}
	parts := strings.Split(text, "-")
	bad := grammarError(strconv.Quote(printable(text)) + " is not NAME-VERSION, NAME-YYYY-MM-DD or NAME-VERSION-YYYY-MM-DD")
	for _, p := range parts {
		if p == "" {
			return runtime{}, bad
		}
	}
	var r runtime
	switch len(parts) {
	case 2:
		r = runtime{name: parts[0], version: parts[1]}
	case 4:
		r = runtime{name: parts[0], date: strings.Join(parts[1:], "-")}
	case 5:
		r = runtime{name: parts[0], version: parts[1], date: strings.Join(parts[2:], "-")}
	default:
		return runtime{}, bad
	}
	if r.date != "" {
		if _, err := time.Parse(time.DateOnly, r.date); err != nil {
			return runtime{}, grammarError(strconv.Quote(printable(r.date)) + " is not a date")
		}
	}
	if r.version != "" && !versionRE.MatchString(r.version) {
		return runtime{}, grammarError(strconv.Quote(printable(r.version)) + " is not a version")
	}
	return r, nil
}
