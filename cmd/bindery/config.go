package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
	"github.com/bindery-hub/bindery/web"
)

// defaultConfig is read when it exists and no other file is named.
const defaultConfig = "/etc/bindery/bindery.yaml"

// A config is the configuration file. docs/configuration.md describes every key, docs/queue.md those of the
// queue; a test compares them.
type config struct {
	StateDir      string   `yaml:"state_dir"`
	Listen        string   `yaml:"listen"`
	SessionListen string   `yaml:"session_listen"`
	SessionURL    string   `yaml:"session_url"`
	WorkerListen  string   `yaml:"worker_listen"`
	PublicURL     string   `yaml:"public_url"`
	Base          string   `yaml:"base"`
	Appendix      string   `yaml:"appendix"`
	Runtime       string   `yaml:"runtime"`
	Slots         int      `yaml:"slots"`
	AllowSource   []string `yaml:"allow_source"`
	LogFormat     string   `yaml:"log_format"`
	Trace         *size    `yaml:"trace"`

	Canary canaryConfig `yaml:"canary"`
	Traces tracesConfig `yaml:"traces"`

	Pools  string       `yaml:"pools"`
	Worker workerConfig `yaml:"worker"`

	IdleExit       time.Duration `yaml:"idle_exit"`
	APITokens      []tokenConfig `yaml:"api_tokens"`
	TrustedProxies []string      `yaml:"trusted_proxies"`
	AllowOrigin    string        `yaml:"allow_origin"`
	HideSources    bool          `yaml:"hide_sources"`

	Binder binderConfig `yaml:",inline"`
	Login  loginConfig  `yaml:"login"`

	Providers  providersConfig  `yaml:"providers"`
	Registries registriesConfig `yaml:"registries"`
	SSH        sshConfig        `yaml:"ssh"`

	Pages    pagesConfig   `yaml:"pages"`
	Sessions sessionConfig `yaml:"sessions"`
	Queue    queueConfig   `yaml:"queue"`
	Steps    stepConfig    `yaml:"steps"`
	Conda    condaConfig   `yaml:"conda"`
	Python   pythonConfig  `yaml:"python"`
	Cache    cacheConfig   `yaml:"cache"`
	Images   imagesConfig  `yaml:"images"`
	Network  networkConfig `yaml:"network"`
}

// A workerConfig says who the worker of this state directory is.
type workerConfig struct {
	Name    string            `yaml:"name"`
	Pool    string            `yaml:"pool"`
	Labels  map[string]string `yaml:"labels"`
	Machine string            `yaml:"machine_type"`
}

// check refuses names that are none.
func (w workerConfig) check() error {
	for key, name := range map[string]string{"name": w.Name, "pool": w.Pool} {
		if name != "" && bindery.CheckWorkerName(name) != nil {
			return fmt.Errorf("worker.%s: %q is not a name", key, bindery.Printable(name))
		}
	}
	return nil
}

// A tracesConfig says where traces go.
type tracesConfig struct {
	URL     string            `yaml:"url"`
	Headers map[string]string `yaml:"headers"`
}

type pagesConfig struct {
	Dir    string `yaml:"dir"`
	Banner string `yaml:"banner"`
	About  string `yaml:"about"`
}

// files are the pages, with the operator's own over them.
func (c pagesConfig) files() fs.FS {
	if c.Dir == "" {
		return nil
	}
	return web.Overlay(os.DirFS(c.Dir))
}

type sessionConfig struct {
	Memory size              `yaml:"memory"`
	CPUs   float64           `yaml:"cpus"`
	PIDs   int64             `yaml:"pids"`
	Log    size              `yaml:"log"`
	Idle   time.Duration     `yaml:"idle"`
	Age    time.Duration     `yaml:"age"`
	Max    int               `yaml:"max"`
	Places int               `yaml:"waiting"`
	Trust  bool              `yaml:"trust"`
	Env    map[string]string `yaml:"env"`
}

type stepConfig struct {
	CAFile      string            `yaml:"ca_file"`
	PipIndex    string            `yaml:"pip_index"`
	NPMIndex    string            `yaml:"npm_index"`
	RCRAN       string            `yaml:"r_cran"`
	RSnapshot   string            `yaml:"r_snapshot"`
	RBuilds     string            `yaml:"r_builds"`
	JuliaMirror string            `yaml:"julia_mirror"`
	JuliaServer string            `yaml:"julia_server"`
	NixChannel  string            `yaml:"nix_channel"`
	Env         map[string]string `yaml:"env"`
	Memory      size              `yaml:"memory"`
	Volatile    *bool             `yaml:"volatile"`
}

// A pythonConfig says where interpreters come from that the base does not have. Suites is nil where it is not said.
type pythonConfig struct {
	Mirror    string   `yaml:"mirror"`
	Downloads string   `yaml:"downloads"`
	Suites    []string `yaml:"suites"`
}

// env are the variables by which uv is told.
func (p pythonConfig) env() map[string]string {
	env := map[string]string{"UV_PYTHON_INSTALL_MIRROR": p.Mirror, "UV_PYTHON_DOWNLOADS_JSON_URL": p.Downloads}
	maps.DeleteFunc(env, func(_, v string) bool { return v == "" })
	return env
}

type cacheConfig struct {
	Max     size `yaml:"max"`
	MinFree size `yaml:"min_free"`
}

// An imagesConfig says which images are kept. Without it none is removed but to make room.
type imagesConfig struct {
	Prune       bool          `yaml:"prune"`
	Unused      time.Duration `yaml:"unused"`
	Superseded  time.Duration `yaml:"superseded"`
	Top         int           `yaml:"top"`
	Generations int           `yaml:"generations"`
}

func (c imagesConfig) rule() bindery.Retention {
	return bindery.Retention{Unused: c.Unused, Superseded: c.Superseded, Top: c.Top, Generations: c.Generations}
}

type networkConfig struct {
	Bridge string   `yaml:"bridge"`
	Subnet string   `yaml:"subnet"`
	Allow  []string `yaml:"allow"`
	DNS    []string `yaml:"dns"`
}

// A size is a number of bytes, written as 512M or 1.5G (powers of 1024).
type size int64

// UnmarshalText reads a size from a flag or the configuration file.
func (s *size) UnmarshalText(text []byte) error {
	digits, unit := strings.ToUpper(strings.TrimSpace(string(text))), int64(1)
	digits = strings.TrimSuffix(strings.TrimSuffix(digits, "B"), "I")
	for i, letter := range "KMGT" {
		if n, ok := strings.CutSuffix(digits, string(letter)); ok {
			digits, unit = n, int64(1)<<(10*(i+1))
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 || math.IsNaN(n) || n*float64(unit) > math.MaxInt64/2 {
		return fmt.Errorf("%q is not a size such as 512M or 2G", bindery.Printable(string(text)))
	}
	*s = size(n * float64(unit))
	return nil
}

// String prints s the way that it is written.
func (s size) String() string {
	for i, letter := range []string{"T", "G", "M", "K"} {
		if unit := size(1) << (10 * (4 - i)); s >= unit {
			return strings.TrimSuffix(strconv.FormatFloat(float64(s)/float64(unit), 'f', 1, 64), ".0") + letter
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// readConfig reads the file that was named, else the default one when it exists.
func readConfig(path string) (config, error) {
	var c config
	named := path != ""
	path = cmp.Or(path, defaultConfig)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return c, nil
	}
	if err != nil {
		return c, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name a file that can be read with --config.", "The configuration file cannot be read").Because(err)
	}
	return c, parseConfig(path, text, &c)
}

// parseConfig is strict: a key that nobody reads is a mistake that its author should hear of.
func parseConfig(path string, text []byte, c *config) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	err := dec.Decode(c)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if dec.Decode(new(yaml.Node)) == nil {
			err = errors.New("more than one document")
		} else {
			err = located(text, c.check())
		}
	}
	if err != nil {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "docs/configuration.md lists the keys and their values, docs/queue.md those of queue.",
			"%s: %s", path, plainYAML(err))
	}
	return nil
}

// located puts the number of its line before what err says of a key.
func located(text []byte, err error) error {
	var doc yaml.Node
	if err == nil || yaml.Unmarshal(text, &doc) != nil || len(doc.Content) == 0 {
		return err
	}
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		key, _, _ := strings.Cut(line, ": ")
		if n := lineOf(doc.Content[0], strings.Split(key, ".")); n > 0 {
			lines[i] = fmt.Sprintf("line %d: %s", n, line)
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

// lineOf finds a key by the names that lead to it; 0: it is not there.
func lineOf(n *yaml.Node, names []string) int {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		switch {
		case n.Content[i].Value != names[0]:
		case len(names) == 1:
			return n.Content[i].Line
		default:
			return lineOf(n.Content[i+1], names[1:])
		}
	}
	return 0
}

var unknownKeyRE = regexp.MustCompile(`field (\S+) not found in type \S+`)

// plainYAML turns the parser's words into ours: a line and the key, without names of Go types.
func plainYAML(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n")
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = unknownKeyRE.ReplaceAllString(strings.TrimSpace(line), `unknown key "$1"`)
		lines[i] = strings.NewReplacer(" into main.config", "", " into main.", " where it takes a ", " into time.Duration", " where it takes a duration such as 90s, 10m or 6h").Replace(line)
	}
	return strings.Join(lines, "; ")
}

// idleExit is how long a worker that nobody asks for anything stays.
func (c *config) idleExit() time.Duration { return cmp.Or(c.IdleExit, 5*time.Minute) }

// check looks at what the parser cannot: addresses, URLs, names.
func (c *config) check() error {
	for key, url := range map[string]string{"traces.url": c.Traces.URL, "session_url": c.SessionURL, "public_url": c.PublicURL, "steps.pip_index": c.Steps.PipIndex, "steps.npm_index": c.Steps.NPMIndex,
		"python.mirror": c.Python.Mirror, "python.downloads": c.Python.Downloads} {
		if err := checkURL(url); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	for key, url := range c.Steps.languages() {
		if err := checkURL(url); err != nil {
			return fmt.Errorf("steps: %s: %w", key, err)
		}
	}
	if err := errors.Join(c.Providers.check(), c.Registries.check(), c.SSH.check(), c.Worker.check(), c.Login.check()); err != nil {
		return err
	}
	if err := c.Conda.check(); err != nil {
		return err
	}
	if _, err := c.policy(); err != nil {
		return err
	}
	if _, _, err := parseAllow(c.AllowSource); err != nil {
		return fmt.Errorf("allow_source: %w", err)
	}
	for key, nets := range map[string][]string{"network.allow": c.Network.Allow, "trusted_proxies": c.TrustedProxies} {
		if _, err := parsePrefixes(nets); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	for _, t := range c.APITokens {
		if err := t.check(); err != nil {
			return fmt.Errorf("api_tokens: %w", err)
		}
	}
	for _, s := range c.Python.Suites {
		if !slices.Contains(plan.Suites(), s) {
			return fmt.Errorf("python.suites: %q is none of %s", bindery.Printable(s), strings.Join(plan.Suites(), ", "))
		}
	}
	if c.LogFormat != "" && c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("log_format: %q is neither text nor json", c.LogFormat)
	}
	if err := c.Canary.check(); err != nil {
		return err
	}
	if err := c.Binder.check(); err != nil {
		return err
	}
	for _, vars := range []map[string]string{c.Sessions.Env, c.Steps.Env} {
		if _, err := environ(vars); err != nil {
			return err
		}
	}
	if c.Images.Unused < 0 || c.Images.Superseded < 0 || c.Images.Top < 0 || c.Images.Generations < 0 {
		return errors.New("images: times and numbers are not negative")
	}
	if c.Slots < 0 || c.Sessions.CPUs < 0 || c.Sessions.PIDs < 0 || c.Sessions.Max < 0 || c.Sessions.Idle < 0 || c.Sessions.Age < 0 || c.IdleExit < 0 {
		return errors.New("slots and limits are not negative")
	}
	return nil
}

func checkURL(raw string) error {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%q is not an http or https URL", bindery.Printable(raw))
	}
	return nil
}

// parseAllow splits the values of --allow-source into networks and directories.
func parseAllow(values []string) (nets []netip.Prefix, dirs []string, err error) {
	for _, v := range values {
		if dir, ok := strings.CutPrefix(v, "file:"); ok {
			dir = strings.TrimPrefix(dir, "//")
			if !filepath.IsAbs(dir) {
				return nil, nil, fmt.Errorf("%q does not name an absolute directory after \"file\"", bindery.Printable(v))
			}
			dirs = append(dirs, filepath.Clean(dir))
			continue
		}
		prefix, err := parsePrefixes([]string{v})
		if err != nil {
			return nil, nil, err
		}
		nets = append(nets, prefix...)
	}
	return nets, dirs, nil
}

func parsePrefixes(values []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, v := range values {
		prefix, err := netip.ParsePrefix(v)
		if addr, notAddr := netip.ParseAddr(v); notAddr == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither a network such as 10.0.0.0/8 nor an address", bindery.Printable(v))
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}

var envNameRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// environ turns variables into sorted K=V strings.
func environ(vars map[string]string) ([]string, error) {
	var all []string
	for k, v := range vars {
		if !envNameRE.MatchString(k) || strings.ContainsRune(v, 0) {
			return nil, fmt.Errorf("%q is not the name of an environment variable", bindery.Printable(k))
		}
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return all, nil
}
