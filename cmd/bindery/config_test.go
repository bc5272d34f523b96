package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
)

func TestConfigIsStrict(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"unknown key":             {"listen: :1\nlisten_on: :2\n", `x.yaml: line 2: unknown key "listen_on"`},
		"unknown key below":       {"sessions:\n  memmory: 2G\n", `x.yaml: line 2: unknown key "memmory"`},
		"bad size":                {"sessions: {memory: lots}", `"lots" is not a size such as 512M or 2G`},
		"negative size":           {"sessions: {memory: -1G}", `"-1G" is not a size`},
		"bad duration":            {"sessions: {idle: soon}", "line 1"},
		"bad type":                {"slots: [1]\n", "line 1: cannot unmarshal !!seq"},
		"bad network":             {"network: {allow: [10.0.0.0/99]}", "network.allow: \"10.0.0.0/99\" is neither"},
		"bad source":              {"allow_source: [file:etc]", "allow_source: \"file:etc\" does not name an absolute directory"},
		"bad URL":                 {"public_url: hub.example.org", "public_url: \"hub.example.org\" is not an http or https URL"},
		"bad log format":          {"log_format: xml", "log_format: \"xml\" is neither text nor json"},
		"bad variable":            {"steps: {env: {A=B: c}}", "is not the name of an environment variable"},
		"token, not its hash":     {"api_tokens: [secret]", "api_tokens: an entry is not the SHA-256 sum"},
		"two documents":           {"slots: 1\n---\nslots: 2\n", "more than one document"},
		"not YAML":                {"slots: 1\n\tx", "x.yaml: "},
		"bad base":                {"base_url: /a/../b", "base_url: \"a/../b\" is not a path"},
		"half a login":            {"login: {client_id: x, user_field: name}", "login."},
		"login's URL":             {"login: {authorize_url: a, token_url: 'https://a.example', user_url: 'https://a.example', user_field: name, client_id: x, client_secret_file: /x}", "login.authorize_url: \"a\" is not an http or https URL"},
		"header":                  {"headers: {Set-Cookie: a=b}", "headers: the header Set-Cookie is not for the configuration to say"},
		"static files":            {"extra_static_path: static", "extra_static_path is not an absolute path"},
		"bad pattern":             {"specs: {gh: {banned_specs: ['a(']}}", "the pattern \"a(\" cannot be read"},
		"bad ban":                 {"ban_networks: {everywhere: us}", "ban_networks: \"everywhere\" is neither"},
		"negative quota":          {"per_repo_quota: -1", "not negative"},
		"provider of no kind":     {"providers: {ours: {url: 'https://git.example'}}", "\"ours\" is none of the usual ones"},
		"kind of provider":        {"providers: {ours: {kind: svn, url: 'https://svn.example'}}", "\"svn\" is not a kind of provider"},
		"provider's URL":          {"providers: {gh: {url: 'git.example'}}", "\"git.example\" is not the http or https URL of a server"},
		"prefix":                  {"providers: {'../x': {kind: gh}}", "cannot be the prefix of links"},
		"token file":              {"providers: {gh: {token_file: token}}", "token_file of \"gh\" is not an absolute path"},
		"registry":                {"registries: {'https://docker.io': {}}", "is not the host of a registry: leave the scheme out"},
		"registry's authority":    {"registries: {docker.io: {ca: ca.crt}}", "ca of \"docker.io\" is not an absolute path"},
		"ssh without known hosts": {"ssh: {keys: {git.example.org: /etc/key}}", "keys need known_hosts"},
		"key of a host":           {"ssh: {known_hosts: /etc/known_hosts, keys: {git.example.org: key}}", "the key of \"git.example.org\" is not an absolute path"},
		"negative slots":          {"slots: -1", "not negative"},
	} {
		t.Run(name, func(t *testing.T) {
			err := parseConfig("x.yaml", []byte(tt.text), new(config))
			if e := bindery.AsError(err); err == nil || e.Kind != bindery.ErrInvalid || e.Remedy == "" || !strings.Contains(e.Msg, tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "main.") {
				t.Errorf("it speaks of our types: %v", err)
			}
		})
	}
}

func TestConfigReads(t *testing.T) {
	var got config
	err := parseConfig("x.yaml", []byte("slots: 3\nsessions: {memory: 1.5G, idle: 30m, env: {A: b}}\nsteps: {volatile: false}\nnetwork: {allow: [10.0.0.1]}\n"), &got)
	if err != nil {
		t.Fatal(err)
	}
	want := config{Slots: 3, Sessions: sessionConfig{Memory: 3 << 29, Idle: 30 * time.Minute, Env: map[string]string{"A": "b"}},
		Steps: stepConfig{Volatile: new(false)}, Network: networkConfig{Allow: []string{"10.0.0.1"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := parseConfig("x.yaml", nil, new(config)); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	if _, err := readConfig(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("a file that was named and is not there is no error")
	}
}

// TestConfigIsDocumented compares the keys with the tables of docs/configuration.md, and those of the queue with the one
// of docs/queue.md.
func TestConfigIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, m[1])
	}
	queue, err := os.ReadFile("../../docs/queue.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range numberRow.FindAllStringSubmatch(string(queue), -1) {
		documented = append(documented, "queue."+m[1])
	}
	keys := keysOf(reflect.TypeFor[config](), "")
	slices.Sort(documented)
	slices.Sort(keys)
	if diff := cmp.Diff(keys, documented); diff != "" {
		t.Errorf("docs/configuration.md, docs/queue.md (-code +document):\n%s", diff)
	}
	_, example, _ := strings.Cut(string(text), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	if err := parseConfig("example", []byte(example), new(config)); err != nil || example == "" {
		t.Errorf("the example is no configuration: %v", err)
	}
}

func keysOf(t reflect.Type, prefix string) (all []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		key := prefix + f.Tag.Get("yaml")
		if strings.HasSuffix(key, ",inline") {
			all = append(all, keysOf(f.Type, prefix)...)
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			all = append(all, keysOf(f.Type, key+".")...)
			continue
		}
		all = append(all, key)
	}
	return all
}

func TestSize(t *testing.T) {
	for in, want := range map[string]size{"0": 0, "512": 512, "1K": 1 << 10, "512m": 512 << 20, "2G": 2 << 30, "2GiB": 2 << 30, "2GB": 2 << 30, "1.5G": 3 << 29, "1T": 1 << 40} {
		var got size
		if err := got.UnmarshalText([]byte(in)); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "G", "x", "-1", "NaN", "Inf", "9e99", "1 G x"} {
		var got size
		if err := got.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q is a size of %d", in, got)
		}
	}
	for in, want := range map[size]string{100: "100", 2 << 30: "2G", 3 << 29: "1.5G", 512 << 20: "512M", 1 << 40: "1T"} {
		if got := in.String(); got != want {
			t.Errorf("%d prints as %q, want %q", int64(in), got, want)
		}
	}
}

func TestServeSettles(t *testing.T) {
	c := serveCmd{Listen: ":1", AllowSource: []string{"10.0.0.0/8"}}
	err := c.settle(config{Listen: ":2", SessionListen: ":3", Slots: 7, AllowSource: []string{"file:/srv"}})
	want := serveCmd{Listen: ":1", SessionListen: ":3", Slots: 7, AllowSource: []string{"10.0.0.0/8", "file:/srv"}}
	if diff := cmp.Diff(want, c); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
