package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCondaConfig(t *testing.T) {
	for name, tt := range map[string]struct{ channel, url, want string }{
		"mirror":   {"conda-forge", "https://mirror.example.org/conda-forge", ""},
		"by URL":   {"https://conda.example.org/lab", "http://10.0.0.1/lab", ""},
		"label":    {"conda-forge/label/dev", "https://m.example.org/x", ""},
		"no URL":   {"conda-forge", "mirror", "not a URL"},
		"file":     {"conda-forge", "file:///srv/x", "not a URL"},
		"password": {"conda-forge", "https://ann:secret@h/x", "has a password"},
		"token":    {"conda-forge", "https://h/t/secret/x", "has a password or a token"},
		"quote":    {"conda-forge", `https://h/x"y`, "a character"},
		"name":     {"a b", "https://h/x", "neither the name"},
	} {
		t.Run(name, func(t *testing.T) {
			err := condaConfig{Channels: map[string]string{tt.channel: tt.url}}.check()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "ann:secret")) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCondaSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.json")
	text := `{"a.example": {"BearerToken": "one"}, "b.example": {"BasicHTTP": {"username": "ann", "password": "two"}}, "c.example": {"CondaToken": "one"}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one", "two"}, condaSecrets(condaConfig{CredentialsFile: file})); diff != "" {
		t.Error(diff)
	}
}
