package buildkit

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// trustMount is where steps find the machine's trust store. It is in no image: a step mounts it, and the mount
// point is taken away after the step.
const trustMount = "/run/bindery"

// Trust is what a machine's network needs of every program: it is given to build steps when they run and is in no
// definition, key, image or history.
type Trust struct {
	CAFile  string   // PEM bundle that replaces the images' own; empty: leave theirs
	Env     []string // K=V: proxies, package indexes
	AptConf string   // lines of apt's configuration
	// Conda has conda channels that are somewhere else than everybody thinks: mirrors by the channel's name or URL.
	Conda map[string]string
}

func (t Trust) env() []string {
	env := append(slices.Clone(t.Env), "APT_CONFIG="+trustMount+"/apt.conf")
	if t.CAFile == "" {
		return env
	}
	for _, k := range caVariables() {
		env = append(env, k+"="+trustMount+"/ca.pem")
	}
	return append(env, "CARGO_HTTP_CAINFO="+trustMount+"/ca.pem")
}

// caVariables name the file to OpenSSL, pip, requests, curl, git, Node, R, conda and Nix.
func caVariables() []string {
	return []string{
		"SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
		"NODE_EXTRA_CA_CERTS", "CONDA_SSL_VERIFY", "NIX_SSL_CERT_FILE", "JULIA_SSL_CA_ROOTS_PATH",
	}
}

// write lays the files down that steps mount. They are copied, so that a change of the original changes no step
// half way through.
func (t Trust) write(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("trust store: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("trust store: %w", err)
	}
	conf := strings.TrimRight(t.AptConf, "\n") + "\n"
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return fmt.Errorf("trust store: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ca.pem"), pem, 0o644); err != nil {
			return fmt.Errorf("trust store: %w", err)
		}
		conf += "Acquire::https::CAInfo \"" + trustMount + "/ca.pem\";\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "apt.conf"), []byte(conf), 0o644); err != nil {
		return fmt.Errorf("trust store: %w", err)
	}
	channels, err := json.Marshal(map[string]any{"channels": t.Conda})
	if err != nil {
		return fmt.Errorf("trust store: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "conda.json"), channels, 0o644); err != nil {
		return fmt.Errorf("trust store: %w", err)
	}
	return writeSources(dir)
}

// writeSources lays down, for each suite, where this machine gets its packages from; assets/apt.sh reads them. Where
// that is Debian's own archives there is nothing to say.
func writeSources(dir string) error {
	machine := machineArchives("/etc/apt")
	for suite := range suites() {
		lines := machine.lines(suite)
		if lines == (archives{}).lines(suite) {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "sources-"+suite+".list"), []byte(lines), 0o644); err != nil {
			return fmt.Errorf("trust store: %w", err)
		}
	}
	return nil
}
