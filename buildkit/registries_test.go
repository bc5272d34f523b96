package buildkit_test

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
)

// fill puts a small image into a registry.
func fill(t *testing.T, h http.Handler, path string) {
	t.Helper()
	plain := httptest.NewServer(h)
	defer plain.Close()
	ref, err := name.ParseReference(strings.TrimPrefix(plain.URL, "http://") + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := random.Layer(1000, "application/vnd.oci.image.layer.v1.tar+gzip")
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
}

// TestRegistries pulls for Dockerfiles of strangers: from a mirror with an authority and a password of its own, which
// stands for a registry that cannot be reached; from one whose pull limit is used up; to and from one that has no TLS.
func TestRegistries(t *testing.T) {
	const user, password = "ann", "open sesame"
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	fill(t, images, "cache/library/tiny:1")
	var shown atomic.Int64
	mirror := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		shown.Add(1)
		images.ServeHTTP(w, r)
	}))
	defer mirror.Close()
	mirror.Config.ErrorLog = log.New(io.Discard, "", 0)
	full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}`)
	}))
	defer full.Close()
	dir := t.TempDir()
	ca, keys := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "keys.json")
	host := strings.TrimPrefix(mirror.URL, "https://")
	limited := strings.TrimPrefix(full.URL, "http://")
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	for file, text := range map[string]string{
		ca:   string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mirror.Certificate().Raw})),
		keys: fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, auth),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := config(t, tempDir(t))
	c.Registries = map[string]buildkit.Registry{
		"docker.io": {Mirrors: []string{host + "/cache"}, Shared: true},
		host:        {CAFile: ca, CredentialsFile: keys},
		"full.test": {Mirrors: []string{limited}, PlainHTTP: true},
	}
	e, _ := start(t, c)
	if _, err := e.Solve(t.Context(), dockerJob(t, "mirrored", "FROM tiny:1\nCOPY cp /cp\n"), func(bindery.Event) {}); err != nil {
		t.Errorf("through the mirror: %v", err)
	}
	if shown.Load() == 0 {
		t.Error("the mirror was not asked")
	}
	_, err := e.Solve(t.Context(), dockerJob(t, "limited", "FROM full.test/tiny:1\nCOPY cp /cp\n"), func(bindery.Event) {})
	got, ok := errors.AsType[*bindery.Error](err)
	if !ok || got.Kind != bindery.ErrUnreachable || got.Fault != bindery.Transient || !strings.Contains(got.Msg, "limit") || got.Remedy == "" {
		t.Errorf("a pull limit: %#v", err)
	}
	// What the mirror may have of the operator's own is not for strangers: its host was not shared.
	if _, err := e.Solve(t.Context(), dockerJob(t, "own", "FROM "+host+"/cache/library/tiny:1\nCOPY cp /cp\n"), func(bindery.Event) {}); err == nil {
		t.Error("a Dockerfile pulled from the mirror's own address, which is not public")
	}
}

func TestRegistriesAreChecked(t *testing.T) {
	for text, r := range map[string]buildkit.Registry{
		"https://registry.example": {}, "registry.example/path": {}, "": {}, "a b": {},
		"registry.example": {Mirrors: []string{"https://mirror.example"}}, "ca.example": {CAFile: "/nonexistent"},
	} {
		c := config(t, tempDir(t))
		c.Registries = map[string]buildkit.Registry{text: r}
		if e, err := buildkit.Open(t.Context(), c); err == nil {
			t.Errorf("%q: %+v was taken", text, r)
			_ = e.Close()
		}
	}
}
