package buildkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	solvererrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"

	bindery "github.com/bindery-hub/bindery"
)

var fromRE = regexp.MustCompile(`(?mi)^\s*FROM\s+(?:--\S+\s+)*(\S+)`)

// fromLines are the bases that a Dockerfile names and that are bootstrapped here, as "debian:SUITE". Everything else
// it names is pulled.
func (s *solve) fromLines() []string {
	text, err := readDockerfile(s.job.Dir, s.job.Plan.Docker)
	if err != nil {
		return nil // the frontend says so in its own words
	}
	var names []string
	for _, m := range fromRE.FindAllStringSubmatch(string(text), -1) {
		tag, ok := strings.CutPrefix(strings.TrimPrefix(strings.TrimPrefix(m[1], "docker.io/"), "library/"), "debian:")
		if suite := suiteOfTag(tag); ok && suite != "" {
			names = append(names, "debian:"+suite)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// suiteOfTag knows the tags of Docker Hub's debian image for a suite.
func suiteOfTag(tag string) string {
	for suite, number := range suites() {
		if slices.Contains(tagsOf(suite, number), tag) {
			return suite
		}
	}
	return ""
}

func tagsOf(suite, number string) []string {
	return []string{suite, suite + "-slim", number, number + "-slim"}
}

// dockerfile builds by BuildKit's own frontend, the one that is part of this program: a "# syntax=" line would fetch
// another from a registry.
func (s *solve) dockerfile(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
	opt := map[string]string{
		"cmdline":  "bindery",
		"filename": s.job.Plan.Docker,

		"build-arg:NB_USER":  userName,
		"build-arg:NB_UID":   strconv.Itoa(userID),
		"build-arg:REPO_DIR": home,
		// Cache mounts have the names that Dockerfiles give them: these are each repository's own.
		"build-arg:BUILDKIT_CACHE_MOUNT_NS": bindery.Key("cache", s.job.Source.Identity())[:16],
	}
	labels := labelsOf(s.job)
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		opt["label:"+k] = labels[k]
	}
	for suite, l := range s.bases {
		for _, tag := range tagsOf(suite, suites()[suite]) {
			opt["context:debian:"+tag] = "oci-layout://base-" + suite + "@" + l.digest.String()
		}
	}
	res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: opt, Evaluate: true})
	if err != nil {
		return nil, err
	}
	if res.Ref == nil && len(res.Refs) == 0 {
		return nil, errors.New("the Dockerfile builds nothing")
	}
	return res, nil
}

// source is where the Dockerfile has a step, as BuildKit's own errors say it; with no line where that is not known.
func (s *solve) source(step string) *solvererrdefs.Source {
	src := &solvererrdefs.Source{Info: &pb.SourceInfo{Filename: s.job.Plan.Docker}}
	text, err := readDockerfile(s.job.Dir, s.job.Plan.Docker)
	if err != nil {
		return src
	}
	if line := instructionAt(text, step); line > 0 {
		at := &pb.Position{Line: int32(line)} //nolint:gosec // a file is a megabyte at most
		src.Ranges = []*pb.Range{{Start: at, End: at}}
	}
	return src
}

// instructionAt returns the line of the one instruction of a Dockerfile that a step is named after, or 0. A step has the
// values of variables where its instruction has their names.
func instructionAt(text []byte, step string) (line int) {
	_, asked, _ := strings.Cut(step, "] ")
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return 0
	}
	for _, n := range parsed.AST.Children {
		if !strings.EqualFold(strings.TrimSpace(n.Original), asked) {
			continue
		}
		if line != 0 {
			return 0
		}
		line = n.StartLine
	}
	return line
}

// readDockerfile reads a file of a repository: never one outside of it, never a pipe, and not without end.
func readDockerfile(dir, name string) ([]byte, error) {
	in, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the repository: %w", err)
	}
	defer in.Close()
	info, err := in.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil, bindery.Errorf(bindery.ErrPlan, bindery.User, "Make it an ordinary file of the repository.", "%s is not a file", bindery.Printable(name)).Because(err)
	}
	f, err := in.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}
