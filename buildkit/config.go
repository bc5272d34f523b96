package buildkit

import (
	"maps"
	"runtime"
	"slices"
	"strings"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/bindery-hub/bindery/plan"
)

// The user, and where things are. Repositories' scripts rely on these, so they are not settings.
const (
	userName  = "jovyan"
	userID    = 1000
	home      = "/home/" + userName
	pyPrefix  = "/srv/conda/envs/notebook"
	loginPath = home + "/.local/bin:" + home + "/.local/bin:" + pyPrefix + "/bin:/srv/conda/bin:/srv/npm/bin"
	basePath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// pair is one variable. A list of pairs keeps their order, which the image shows.
type pair struct{ key, value string }

// baseEnv is the environment of every step and of the image.
func baseEnv(path string) []pair {
	return []pair{
		{"DEBIAN_FRONTEND", "noninteractive"},
		{"LC_ALL", "en_US.UTF-8"},
		{"LANG", "en_US.UTF-8"},
		{"LANGUAGE", "en_US.UTF-8"},
		{"SHELL", "/bin/bash"},
		{"USER", userName},
		{"HOME", home},
		{"APP_BASE", "/srv"},
		{"CONDA_DIR", "/srv/conda"},
		{"NB_PYTHON_PREFIX", pyPrefix},
		{"KERNEL_PYTHON_PREFIX", pyPrefix},
		{"NPM_DIR", "/srv/npm"},
		{"NPM_CONFIG_GLOBALCONFIG", "/srv/npm/npmrc"},
		{"NB_ENVIRONMENT_FILE", "/tmp/env/environment.lock"},
		{"MAMBA_ROOT_PREFIX", "/srv/conda"},
		{"MAMBA_EXE", "/srv/conda/bin/mamba"},
		{"CONDA_PLATFORM", condaPlatform()},
		{"PATH", loginPath + ":" + path},
		{"REPO_DIR", home},
		{"CONDA_DEFAULT_ENV", pyPrefix},
	}
}

func condaPlatform() string {
	if runtime.GOARCH == "arm64" {
		return "linux-aarch64"
	}
	return "linux-64"
}

// searchPath is PATH after the directories of every login, over a base with its own.
func searchPath(p plan.Plan, base string) string {
	return strings.Join(append(slices.Clone(p.Path), base), ":")
}

// planEnv is baseEnv with what the plan adds to it.
func planEnv(p plan.Plan, base string) []pair {
	vars := slices.DeleteFunc(baseEnv(searchPath(p, base)), func(v pair) bool { _, own := p.Variables[v.key]; return own })
	for _, key := range slices.Sorted(maps.Keys(p.Variables)) {
		vars = append(vars, pair{key, p.Variables[key]})
	}
	return append(vars, archEnv(p)...)
}

// stepEnv is what steps see beside it and images do not keep. What Python compiles while it imports differs from run to
// run, so it keeps none of that; what it writes of sets is in the same order always.
func stepEnv() []pair {
	return []pair{{"NB_USER", userName}, {"NB_UID", "1000"}, {epochVariable, epochText()}, {"PYTHONDONTWRITEBYTECODE", "1"}, {"PYTHONHASHSEED", "0"}}
}

// imageConfig is the OCI configuration of the image of job, over a base whose own environment is env.
func imageConfig(job plan.Job, env []string) ocispecs.Image {
	vars := planEnv(job.Plan, pathOf(env))
	switch {
	case job.Plan.Pack == plan.PackNix: // it looks for start itself
		vars = append(vars, pair{"R2D_ENTRYPOINT", nixWrapper})
	case job.Plan.Start != "":
		vars = append(vars, pair{"R2D_ENTRYPOINT", home + "/" + job.Plan.Start})
	}
	vars = append(vars, pair{"PYTHONUNBUFFERED", "1"})
	own := make([]string, len(vars))
	for i, v := range vars {
		own[i] = v.key + "=" + v.value
	}
	cmd := job.Plan.Command
	if len(cmd) == 0 {
		cmd = []string{"jupyter", "notebook", "--ip", "0.0.0.0"}
	}
	img := ocispecs.Image{Platform: ocispecs.Platform{OS: "linux", Architecture: runtime.GOARCH}}
	img.Config = ocispecs.ImageConfig{
		User:         userName,
		WorkingDir:   home,
		ExposedPorts: map[string]struct{}{"8888/tcp": {}},
		Env:          addMissing(own, env),
		Entrypoint:   []string{"/usr/local/bin/repo2docker-entrypoint"},
		Cmd:          cmd,
		Labels:       labelsOf(job),
	}
	return img
}

// labelsOf are repo2docker's labels, and the caller's.
func labelsOf(job plan.Job) map[string]string {
	l := map[string]string{
		"repo2docker.ref":     "None", // the word, as repo2docker writes it
		"repo2docker.repo":    "local",
		"repo2docker.version": "bindery-" + Generation(),
	}
	if job.Source.Commit != "" {
		l["repo2docker.ref"] = job.Source.Commit
		l["repo2docker.repo"] = job.Source.URL
	}
	maps.Copy(l, job.Labels)
	return l
}

// pathOf finds PATH in an image's environment.
func pathOf(env []string) string {
	i := slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") })
	if i < 0 {
		return basePath
	}
	return strings.TrimPrefix(env[i], "PATH=")
}
