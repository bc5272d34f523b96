// Package plan turns the files of a repository into a Plan by the rules of repo2docker: pure, without network or clock.
package plan

import bindery "github.com/bindery-hub/bindery"

// Version counts the changes of the rules in this package that change what is built. It is part of every generation.
const Version = "2"

// Packs, in repo2docker's own words.
const (
	PackPython     = "python"
	PackConda      = "conda"
	PackPipfile    = "pipfile"
	PackR          = "r"
	PackJulia      = "julia"
	PackNix        = "nix"
	PackDockerfile = "dockerfile"
	PackDefault    = "default"
)

// Tools of an Install: package buildkit has a method for each.
const (
	ToolPip   = "pip"   // requirement files and local packages, by uv, and by pip where uv cannot
	ToolUV    = "uv"    // the uv.lock that is the install's one file
	ToolConda = "conda" // conda environments
	// ToolCondaPip is the pip section of a conda environment: requirement lines that are in no requirement file.
	ToolCondaPip = "conda-pip"
	ToolR        = "r"
	ToolJulia    = "julia"
	ToolNix      = "nix"
	ToolNPM      = "npm"
)

// A Plan is what a repository's files ask for. It is data: it marshals to the same JSON for the same files.
type Plan struct {
	Pack      string         `json:"pack"`
	ConfigDir string         `json:"config_dir"`          // where the configuration files are: "", "binder" or ".binder"
	Base      string         `json:"base"`                // "debian:SUITE" or an image reference; empty with a Dockerfile, which has its own
	Python    string         `json:"python"`              // X.Y of the environment; empty with a Dockerfile, and when the base's own is unknown and will do
	Patches   string         `json:"patches,omitempty"`   // which X.Y.Z will do, as uv is asked for one: empty where any does
	Apt       []string       `json:"apt"`                 // sorted; names as apt-get install takes them
	AptLines  map[string]int `json:"apt_lines,omitempty"` // where apt.txt names a package: no part of a key
	AptExtra  []string       `json:"apt_extra,omitempty"` // Debian packages that are installed too where the base's archives have them: NAME, or NAME=VERSION of its authors; sorted
	Env       []Install      `json:"env"`                 // installs that need their Reads only, in order
	Content   []Install      `json:"content"`             // installs that need the whole repository (local packages), in order
	Path      []string       `json:"path,omitempty"`      // further directories of PATH, before the base's own
	// Variables are of every step after the environment, and of the image, beside those that all images have.
	Variables map[string]string `json:"variables,omitempty"`
	PostBuild string            `json:"post_build,omitempty"`
	Start     string            `json:"start,omitempty"`
	Docker    string            `json:"dockerfile,omitempty"`      // path of the Dockerfile
	Reads     []string          `json:"reads"`                     // every file that the environment part comes from, sorted; its installs read Files and Includes only
	Ignore    []string          `json:"ignore_patterns,omitempty"` // of .dockerignore and .containerignore
	Command   []string          `json:"command"`                   // what a session runs when nothing else is asked; empty with a Dockerfile, which has its own
	Why       []Decision        `json:"why"`
	Ignored   []Decision        `json:"ignored"` // files that look like configuration and have no effect
}

// An Install is one package manager's work. It runs as the user, in the directory of the repository.
type Install struct {
	Tool     string   `json:"tool"`               // one of the Tools: who installs
	Files    []string `json:"files"`              // passed to the tool in order; relative to the repository
	Includes []string `json:"includes,omitempty"` // files that Files name and the tool opens as well
	From     string   `json:"from,omitempty"`     // the file that Lines or Args come from
	// Lines are of a requirement file that the planner writes: what a format that the tool cannot read comes to.
	Lines   []string `json:"lines,omitempty"`
	Numbers []int    `json:"-"`                 // where Lines stand in From, for errors; no part of a plan's JSON or of a key
	Args    []string `json:"args,omitempty"`    // what is installed beside Files' contents, such as "."
	Version string   `json:"version,omitempty"` // of the language, or of the tool
	// Prefix is a directory that only installs with the same Prefix write to. They run in an order of their own, beside
	// the others, on the base with its Debian packages and servers. Empty: the notebook environment's own order.
	Prefix string            `json:"prefix,omitempty"`
	Env    map[string]string `json:"env,omitempty"` // variables of this step only
	// Encodings has those of Files and Includes that are not UTF-8: Python's name of the encoding by
	// path. Such a file is converted before an installer that knows only UTF-8 sees it.
	Encodings map[string]string `json:"encodings,omitempty"`
	Conda     *CondaEnvironment `json:"conda,omitempty"` // with ToolConda
}

// A Decision says which file led to what, in words for the repository's author.
type Decision struct {
	File string `json:"file"`
	Text string `json:"text"`
}

// A Job is a plan together with the files and names it is to be solved for.
type Job struct {
	Plan Plan
	Dir  string // the checkout, or the directory of it that is built
	// GitDir is Dir's .git directory, copied as a layer of its own; empty when there is none, or when the ignore
	// patterns concern it, so that it is copied (or not) like any other file.
	GitDir   string
	Name     string // of the image
	Appendix string // lines of a Dockerfile that the operator adds; none with a Dockerfile of the repository's own
	EnvKey   string
	ImageKey string
	Source   bindery.Source
	Labels   map[string]string
	Push     []string // image references
	OCI      string   // directory
	Export   bindery.Export
}

// Made is what solving a Job gave.
type Made struct {
	Steps  bindery.Steps
	Solve  float64 // seconds
	Export float64 // seconds
	Digest string  // of the manifest; empty when nothing was pushed or written
	Image  bindery.Image
}
