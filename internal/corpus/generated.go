package corpus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Sizes of the generated samples.
const (
	LargeBytes = 500_000_000
	ManyFiles  = 50_000
)

// script writes an executable ./verify.
func script(dir, body string) error {
	return os.WriteFile(filepath.Join(dir, "verify"), []byte("#!/bin/bash\nset -euo pipefail\n"+body), 0o755)
}

// writeLarge makes a repository of 500 MB that no compression makes smaller: data sets, as people have them.
func writeLarge(dir string) error {
	const files = 10
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte([]byte("sample repository of 500 million")))
	buf := make([]byte, LargeBytes/files)
	for i := range files {
		if _, err := noise.Read(buf); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "data", fmt.Sprintf("part-%d.bin", i)), buf, 0o644); err != nil {
			return err
		}
	}
	return script(dir, fmt.Sprintf(`[ "$(cat data/part-*.bin | wc -c)" = %d ]
[ "$(stat -c %%U:%%s data/part-0.bin)" = jovyan:%d ]
`, LargeBytes, LargeBytes/files))
}

// writeMany makes a repository of 50,000 small files in 500 directories.
func writeMany(dir string) error {
	const perDirectory = 100
	for i := range ManyFiles / perDirectory {
		sub := filepath.Join(dir, "files", fmt.Sprintf("%02d", i/25), fmt.Sprintf("%03d", i))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		for j := range perDirectory {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("%02d.txt", j)), fmt.Appendf(nil, "file %d of directory %d\n", j, i), 0o644); err != nil {
				return err
			}
		}
	}
	return script(dir, fmt.Sprintf(`[ "$(find files -type f | wc -l)" = %d ]
[ -z "$(find files ! -user jovyan -print -quit)" ]
[ "$(cat files/19/499/99.txt)" = "file 99 of directory 499" ]
`, ManyFiles))
}

// OddNames are file names that trip programs: shells, options, patterns and encodings.
func OddNames() []string {
	return []string{
		"two words", " leading and trailing ", "-rf", "--help", "it's", `a "quoted" name`, "$HOME", "`id`", "$(id)", "a;b", "a&b|c", "*.txt", "[a-z]", "?",
		"{a,b}", "!important", "#hash", "~", `back\slash`, "new\nline", "tab\there", "bell\a", "%s%n", "ünïcödé", "e\u0301 decomposed", "\u202egnp.exe",
		"😀", "latin-1 \xe9", "\xff\xfe", "con", "..hidden", "...", "a=b", "@file", "{{.Plan}}", "<b>", "日本語",
	}
}

// writeOddNames makes a file of each odd name, and another inside a directory of nearly that name.
func writeOddNames(dir string) error {
	var expected bytes.Buffer
	write := func(name, text string) error {
		fmt.Fprintf(&expected, "%s\x00%s\x00", name, text)
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
	}
	for i, name := range OddNames() {
		if err := write(name, fmt.Sprintf("file %d\n", i)); err != nil {
			return err
		}
		sub := name + "_"
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
		if err := write(sub+"/"+name, fmt.Sprintf("file %d again\n", i)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "expected"), expected.Bytes(), 0o644); err != nil {
		return err
	}
	return script(dir, `python3 - <<'EOF'
parts = open("expected", "rb").read().split(b"\0")[:-1]
for name, text in zip(parts[::2], parts[1::2]):
    assert open(name, "rb").read() == text, name
assert len(parts) > 100, len(parts)
EOF
`)
}
