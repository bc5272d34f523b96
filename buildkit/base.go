package buildkit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	bindery "github.com/bindery-hub/bindery"
)

const defaultBase = "debian:bookworm"

// suites are the releases of Debian that are bootstrapped here, with the numbers that Dockerfiles know them by.
func suites() map[string]string {
	return map[string]string{"bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14"}
}

// suiteOf returns the suite of a base like "debian:bookworm", or "" when base is an image reference.
func suiteOf(base string) string {
	name, ok := strings.CutPrefix(base, "debian:")
	if _, known := suites()[name]; ok && known {
		return name
	}
	return ""
}

// basePackages are what repositories compile against without asking for it: the contents of buildpack-deps, with
// what the environments need.
func basePackages(suite string) []string {
	const scm = "ca-certificates curl git gnupg mercurial netbase openssh-client procps subversion tzdata wget"
	const build = "autoconf automake bzip2 default-libmysqlclient-dev dpkg-dev file g++ gcc imagemagick libbz2-dev libc6-dev libcurl4-openssl-dev " +
		"libdb-dev libevent-dev libffi-dev libgdbm-dev libglib2.0-dev libgmp-dev libjpeg-dev libkrb5-dev liblzma-dev libmagickcore-dev " +
		"libmagickwand-dev libmaxminddb-dev libncurses5-dev libncursesw5-dev libpng-dev libpq-dev libreadline-dev libsqlite3-dev libssl-dev " +
		"libtool libwebp-dev libxml2-dev libxslt1-dev libyaml-dev make patch unzip xz-utils zlib1g-dev"
	const own = "gettext-base less locales python3 python3-dev python3-venv"
	list := strings.Fields(scm + " " + build + " " + own)
	slices.Sort(list)
	if suite == "bullseye" {
		// Its archive is kept by the LTS team and names versions of these that it no longer has.
		list = slices.DeleteFunc(list, func(p string) bool { return strings.HasPrefix(p, "libmagick") })
	}
	return list
}

// A layout is a bootstrapped base: an OCI layout, and the digest of the manifest in it.
type layout struct {
	dir    string
	digest digest.Digest
	env    []string
}

func baseID(suite string) string {
	sum := sha256.Sum256([]byte(suite + " " + runtime.GOARCH + " " + strings.Join(basePackages(suite), ",")))
	return suite + "-" + hex.EncodeToString(sum[:])[:12]
}

// bootstrap returns the base of a suite, and makes it first if this is the first time. Others that want the same one
// wait for it, in whichever process they are.
func (e *Engine) bootstrap(ctx context.Context, suite string, emit func(bindery.Event)) (layout, error) {
	dir := filepath.Join(e.cfg.BaseDir, baseID(suite))
	if l, err := readLayout(dir); err == nil {
		return l, nil
	}
	if err := os.MkdirAll(e.cfg.BaseDir, 0o700); err != nil {
		return layout{}, fmt.Errorf("bases: %w", err)
	}
	lock := flock.New(dir + ".lock")
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return layout{}, fmt.Errorf("wait for the base: %w", err)
	}
	defer lock.Unlock()
	if l, err := readLayout(dir); err == nil {
		return l, nil
	}
	step := bindery.Step{ID: "base-" + suite, Name: "Bootstrap Debian " + suite, Started: time.Now()}
	say := func(text string) { emit(bindery.Event{Phase: bindery.PhaseBuilding, Message: text}) }
	emit(bindery.Event{Phase: bindery.PhaseBuilding, Message: step.Name + ": once, it takes a minute or two\n", Step: new(step)})
	tmp := dir + ".new" // one name, under the lock: what a killed worker left there is taken away by the next
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o700)); err != nil {
		return layout{}, fmt.Errorf("bases: %w", err)
	}
	defer os.RemoveAll(tmp)
	err := e.makeLayout(ctx, suite, tmp, say)
	step.Ended, step.Failed = time.Now(), err != nil
	emit(bindery.Event{Phase: bindery.PhaseBuilding, Step: new(step)})
	if err != nil {
		return layout{}, err
	}
	if err := errors.Join(syncDir(tmp), os.Rename(tmp, dir)); err != nil {
		return layout{}, fmt.Errorf("bases: %w", err)
	}
	return readLayout(dir)
}

func readLayout(dir string) (layout, error) {
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return layout{}, err
	}
	var index ocispecs.Index
	if err := json.Unmarshal(b, &index); err != nil || len(index.Manifests) != 1 {
		return layout{}, fmt.Errorf("the base in %s is broken: %w", dir, err)
	}
	return layout{dir: dir, digest: index.Manifests[0].Digest, env: []string{"PATH=" + basePath}}, nil
}

// makeLayout runs mmdebstrap and packs what it makes as it comes.
func (e *Engine) makeLayout(ctx context.Context, suite, dir string, say func(string)) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		return fmt.Errorf("bases: %w", err)
	}
	cmd, err := e.debstrap(ctx, suite, dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Join(dir, "work"))
	tail := &tailWriter{say: say}
	cmd.Stderr = tail
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("mmdebstrap: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Run apt-get install mmdebstrap.", "The program mmdebstrap cannot be started").Because(err)
	}
	desc, diffID, packErr := packLayer(dir, out)
	_, _ = io.Copy(io.Discard, out) // lets it end when packing stopped early
	if err := cmd.Wait(); err != nil {
		return debstrapError(ctx, suite, tail.last(), err)
	}
	if packErr != nil {
		return classify(packErr)
	}
	return writeLayout(dir, desc, diffID)
}

func (e *Engine) debstrap(ctx context.Context, suite, dir string) (*exec.Cmd, error) {
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, fmt.Errorf("bases: %w", err)
	}
	canonical := filepath.Join(work, "sources.list")
	if err := os.WriteFile(canonical, []byte(archives{}.lines(suite)), 0o644); err != nil {
		return nil, fmt.Errorf("bases: %w", err)
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--variant=minbase", "--mode=root", "--include="+strings.Join(basePackages(suite), ","),
		`--aptopt=APT::Install-Recommends "false"`, `--aptopt=Acquire::Check-Valid-Until "false"`,
		"--dpkgopt=force-unsafe-io",
		// The image names Debian's own archives: which mirror this machine uses is nobody's business.
		"--customize-hook=copy-in "+canonical+" /etc/apt/",
		suite, "-", "-")
	cmd.Stdin = strings.NewReader(machineArchives("/etc/apt").lines(suite))
	cmd.Env = append(os.Environ(), "TMPDIR="+work, "SOURCE_DATE_EPOCH=0", "LC_ALL=C.UTF-8")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it then removes what it has mounted
	cmd.WaitDelay = 20 * time.Second
	return cmd, nil
}

func debstrapError(ctx context.Context, suite, last string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("bootstrap %s: %w", suite, context.Cause(ctx))
	}
	if e := trouble(last); e != nil {
		return e.Because(fmt.Errorf("mmdebstrap: %w: %s", err, last))
	}
	return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "See the log of mmdebstrap above; bindery doctor checks this machine.",
		"Debian %s cannot be bootstrapped on this machine", suite).Because(fmt.Errorf("mmdebstrap: %w: %s", err, last))
}

// packLayer compresses a tar into the layout. A quick level: the layer is unpacked once and read by nobody else.
func packLayer(dir string, tar io.Reader) (ocispecs.Descriptor, digest.Digest, error) {
	f, err := os.CreateTemp(filepath.Join(dir, "blobs"), ".layer-")
	if err != nil {
		return ocispecs.Descriptor{}, "", fmt.Errorf("pack the base: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	packed, plain := digest.Canonical.Digester(), digest.Canonical.Digester()
	buf := bufio.NewWriterSize(io.MultiWriter(f, packed.Hash()), 1<<20)
	z, err := zstd.NewWriter(buf, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return ocispecs.Descriptor{}, "", fmt.Errorf("pack the base: %w", err)
	}
	_, err = io.Copy(io.MultiWriter(z, plain.Hash()), tar)
	if err := errors.Join(err, z.Close(), buf.Flush()); err != nil {
		return ocispecs.Descriptor{}, "", fmt.Errorf("pack the base: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return ocispecs.Descriptor{}, "", fmt.Errorf("pack the base: %w", err)
	}
	desc := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayerZstd, Digest: packed.Digest(), Size: info.Size()}
	if err := os.Rename(f.Name(), blobPath(dir, desc.Digest)); err != nil {
		return ocispecs.Descriptor{}, "", fmt.Errorf("pack the base: %w", err)
	}
	return desc, plain.Digest(), nil
}

func blobPath(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
}

func writeLayout(dir string, layer ocispecs.Descriptor, diffID digest.Digest) error {
	img := ocispecs.Image{
		Platform: ocispecs.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   ocispecs.ImageConfig{Env: []string{"PATH=" + basePath}, Cmd: []string{"bash"}},
		RootFS:   ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
	}
	config, err := writeBlob(dir, ocispecs.MediaTypeImageConfig, img)
	if err != nil {
		return err
	}
	manifest, err := writeBlob(dir, ocispecs.MediaTypeImageManifest, ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageManifest, Config: config, Layers: []ocispecs.Descriptor{layer},
	})
	if err != nil {
		return err
	}
	index, err := json.Marshal(ocispecs.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex, Manifests: []ocispecs.Descriptor{manifest},
	})
	if err != nil {
		return fmt.Errorf("pack the base: %w", err)
	}
	mark := []byte(`{"imageLayoutVersion":"1.0.0"}`)
	if err := os.WriteFile(filepath.Join(dir, ocispecs.ImageLayoutFile), mark, 0o644); err != nil {
		return fmt.Errorf("pack the base: %w", err)
	}
	return writeDurably(filepath.Join(dir, "index.json"), index)
}

func writeBlob(dir, mediaType string, v any) (ocispecs.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("pack the base: %w", err)
	}
	d := digest.FromBytes(b)
	if err := os.WriteFile(blobPath(dir, d), b, 0o644); err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("pack the base: %w", err)
	}
	return ocispecs.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}, nil
}

// tailWriter passes lines on and remembers the last ones.
type tailWriter struct {
	say   func(string)
	lines []string
	part  []byte
}

// Write takes whatever comes; progress bars, which return the carriage, are left out.
func (t *tailWriter) Write(p []byte) (int, error) {
	t.part = append(t.part, p...)
	for {
		line, rest, ok := bytes.Cut(t.part, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		t.part = slices.Clone(rest)
		text := string(line)
		if strings.Contains(text, "\r") || strings.HasPrefix(text, "Selecting ") || strings.HasPrefix(text, "Preparing ") {
			continue
		}
		t.lines = append(t.lines, text)
		t.lines = t.lines[max(0, len(t.lines)-20):]
		t.say(text + "\n")
	}
}

func (t *tailWriter) last() string { return strings.Join(t.lines, "\n") }
