// Package scenario plays the text files by which what decides is tested.
package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Play plays each of testdata/*.txt in a subtest: blocks of commands, a line of ----, the answer. A block without that
// line, and a line that begins with #, are comments.
//
// begin is called for each file; what it returns carries out one command and says what came of it, in lines. Commands
// of one block that say nothing are answered by "ok". With update the answers are rewritten: read the diff as you would
// read code.
func Play(t *testing.T, update bool, begin func(t *testing.T) (do func(line string) []string)) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := answer(string(text), begin(t))
			if update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("answers differ (-file +now):\n%s", diff)
			}
		})
	}
}

// answer is text with the answers of now.
func answer(text string, do func(line string) []string) string {
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands, _, ok := strings.Cut(block+"\n", "----\n")
		out.WriteString(commands)
		if !ok {
			continue
		}
		out.WriteString("----\n")
		answers := 0
		for line := range strings.SplitSeq(strings.TrimSpace(commands), "\n") {
			if strings.HasPrefix(line, "#") {
				continue
			}
			for _, a := range do(line) {
				answers++
				fmt.Fprintln(&out, a)
			}
		}
		if answers == 0 {
			fmt.Fprintln(&out, "ok")
		}
	}
	return out.String()
}
