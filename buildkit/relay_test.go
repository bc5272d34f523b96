package buildkit_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
)

const simpleJSON = "application/vnd.pypi.simple.v1+json"

// A relay stands before an index that lacks the metadata files of PyPI (PEP 658), and has them: without them uv asks for a
// piece of each package's file to see what it needs, which some mirrors are slow to give. What it has answered once it keeps.
type relay struct {
	public string

	mu    sync.Mutex
	kept  map[string][]byte // by path
	files map[string]string // where the files are, by name
}

// asPyPI returns the address of an index that answers as PyPI does: the public one if it has metadata files, else a relay.
func asPyPI(tb testing.TB) string {
	tb.Helper()
	rl := &relay{public: publicIndex(), kept: map[string][]byte{}, files: map[string]string{}}
	page, err := rl.get(rl.public+"/six/", simpleJSON)
	if err != nil {
		tb.Fatal(err)
	}
	if bytes.Contains(page, []byte(`"core-metadata"`)) || !json.Valid(page) {
		return rl.public
	}
	srv := httptest.NewServer(rl)
	tb.Cleanup(srv.Close)
	return srv.URL + "/simple"
}

func (rl *relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, immutable, err := rl.answer(r.URL.Path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "max-age=600")
	if immutable {
		w.Header().Set("Cache-Control", "max-age=365000000, immutable")
	} else {
		w.Header().Set("Content-Type", simpleJSON)
	}
	_, _ = w.Write(answer) // a client that is gone is no matter
}

// answer returns a project's page, a file, or the metadata of one.
func (rl *relay) answer(at string) (answer []byte, immutable bool, err error) {
	rl.mu.Lock()
	answer, ok := rl.kept[at]
	rl.mu.Unlock()
	name, isFile := strings.CutPrefix(at, "/files/")
	switch wheel, meta := strings.CutSuffix(name, ".metadata"); {
	case ok:
	case isFile && meta:
		var file []byte
		if file, _, err = rl.answer("/files/" + wheel); err == nil {
			answer, err = metadataOf(file)
		}
	case isFile:
		rl.mu.Lock()
		url := rl.files[name]
		rl.mu.Unlock()
		answer, err = rl.get(url, "*/*")
	default:
		answer, err = rl.page(at)
	}
	if err == nil {
		rl.mu.Lock()
		rl.kept[at] = answer
		rl.mu.Unlock()
	}
	return answer, isFile, err
}

// page is the public index's, with the files here.
func (rl *relay) page(at string) ([]byte, error) {
	text, err := rl.get(rl.public+strings.TrimPrefix(at, "/simple"), simpleJSON)
	if err != nil {
		return nil, err
	}
	var page map[string]any
	if err := json.Unmarshal(text, &page); err != nil {
		return nil, fmt.Errorf("page %s: %w", at, err)
	}
	files, _ := page["files"].([]any)
	for _, f := range files {
		file, _ := f.(map[string]any)
		url, _ := file["url"].(string)
		name, _ := file["filename"].(string)
		file["url"] = "/files/" + name
		if strings.HasSuffix(name, ".whl") {
			file["core-metadata"] = true
		}
		rl.mu.Lock()
		rl.files[name] = url
		rl.mu.Unlock()
	}
	return json.Marshal(page)
}

func (rl *relay) get(url, accept string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// metadataOf is what the metadata file beside a wheel has.
func metadataOf(wheel []byte) ([]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(wheel), int64(len(wheel)))
	if err != nil {
		return nil, err
	}
	for _, f := range z.File {
		if dir, name := path.Split(f.Name); name == "METADATA" && strings.HasSuffix(dir, ".dist-info/") && strings.Count(dir, "/") == 1 {
			r, err := f.Open()
			if err != nil {
				return nil, err
			}
			defer r.Close()
			return io.ReadAll(r)
		}
	}
	return nil, errors.New("a wheel without METADATA")
}
