package main

import (
	"bufio"
	"cmp"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// trustFile finds the certificates that this machine trusts: as configured, as its own programs are told, or where
// Debian, Fedora and Alpine keep them.
func trustFile(steps stepConfig, getenv func(string) string) string {
	for _, file := range []string{steps.CAFile, getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"} {
		if info, err := os.Stat(file); file != "" && err == nil && info.Mode().IsRegular() {
			return file
		}
	}
	return ""
}

// machineEnv returns what build steps are told of this machine: proxies and package indexes. Directories of this
// machine, such as PIP_FIND_LINKS, mean nothing inside a step and stay outside.
func machineEnv(c config, getenv func(string) string) map[string]string {
	steps, env := c.Steps, c.Python.env()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"} {
		lower := strings.ToLower(name)
		if v := cmp.Or(getenv(name), getenv(lower)); v != "" {
			env[name], env[lower] = v, v
		}
	}
	home := getenv("HOME")
	pip := cmp.Or(steps.PipIndex, getenv("UV_DEFAULT_INDEX"), getenv("UV_INDEX_URL"), getenv("PIP_INDEX_URL"),
		iniValue("index-url", getenv("PIP_CONFIG_FILE"), filepath.Join(home, ".config/pip/pip.conf"), filepath.Join(home, ".pip/pip.conf"), "/etc/pip.conf"))
	if isWeb(pip) {
		env["UV_DEFAULT_INDEX"], env["PIP_INDEX_URL"] = pip, pip
	}
	npm := cmp.Or(steps.NPMIndex, getenv("NPM_CONFIG_REGISTRY"), getenv("npm_config_registry"),
		iniValue("registry", getenv("NPM_CONFIG_USERCONFIG"), filepath.Join(home, ".npmrc"), "/etc/npmrc"))
	if isWeb(npm) {
		env["NPM_CONFIG_REGISTRY"] = npm
	}
	for name, url := range steps.languages() {
		if isWeb(url) {
			env[name] = url
		}
	}
	maps.Copy(env, steps.Env)
	return env
}

// languages are the addresses that R's, Julia's and Nix's steps fetch from, by the variables that tell them.
func (s stepConfig) languages() map[string]string {
	return map[string]string{
		"BINDERY_R_CRAN": s.RCRAN, "BINDERY_R_SNAPSHOT": s.RSnapshot, "BINDERY_R_BUILDS": s.RBuilds,
		"BINDERY_JULIA_MIRROR": s.JuliaMirror, "JULIA_PKG_SERVER": s.JuliaServer, "BINDERY_NIX_CHANNEL": s.NixChannel,
	}
}

// trustEnv is machineEnv as sorted K=V strings.
func trustEnv(c config, getenv func(string) string) []string {
	var all []string
	for k, v := range machineEnv(c, getenv) {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return all
}

// passwords returns those in the URLs of an environment: programs print their settings, and logs are for everybody.
func passwords(env []string) []string {
	var all []string
	for _, kv := range env {
		_, value, _ := strings.Cut(kv, "=")
		u, err := url.Parse(value)
		if err != nil {
			continue
		}
		if word, ok := u.User.Password(); ok && word != "" && !slices.Contains(all, word) {
			all = append(all, word)
		}
	}
	return all
}

// iniValue reads one key of the first file that has it, in the form that pip and npm share: key = value.
func iniValue(key string, files ...string) string {
	for _, file := range files {
		f, err := os.Open(file)
		if file == "" || err != nil {
			continue
		}
		value := ""
		for rows := bufio.NewScanner(f); rows.Scan(); {
			k, v, ok := strings.Cut(rows.Text(), "=")
			if ok && strings.TrimSpace(k) == key {
				value = strings.Trim(strings.TrimSpace(v), `"`)
			}
		}
		_ = f.Close() // only read
		if value != "" {
			return value
		}
	}
	return ""
}

func isWeb(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// redacted is a URL without the password that it may carry.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Redacted()
}
