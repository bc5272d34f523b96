package buildkit

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	gateway "github.com/moby/buildkit/frontend/gateway/client"
)

var fromRE = regexp.MustCompile(`(?mi)^\s*FROM\s+(?:--\S+\s+)*(\S+)`)

// fromLines are the bases that a Dockerfile names and that are bootstrapped here, as "debian:SUITE". Everything else
// it names is pulled.
func (s *solve) fromLines() []string {
	path := filepath.Join(s.job.Dir, filepath.FromSlash(s.job.Plan.Docker))
	text, err := os.ReadFile(path)
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
