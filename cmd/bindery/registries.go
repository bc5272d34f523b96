package main

import (
	"fmt"
	"path/filepath"
	"strings"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
)

// registriesConfig is by the host in image names, such as docker.io.
type registriesConfig map[string]registryConfig

type registryConfig struct {
	Mirrors         []string `yaml:"mirrors"`
	PlainHTTP       bool     `yaml:"plain_http"`
	CA              string   `yaml:"ca"`
	CredentialsFile string   `yaml:"credentials_file"`
	Shared          bool     `yaml:"shared"`
}

// engine is the configuration as the engine reads it.
func (c registriesConfig) engine() map[string]buildkit.Registry {
	all := map[string]buildkit.Registry{}
	for host, r := range c {
		all[host] = buildkit.Registry{Mirrors: r.Mirrors, PlainHTTP: r.PlainHTTP, CAFile: r.CA, CredentialsFile: r.CredentialsFile, Shared: r.Shared}
	}
	return all
}

func (c registriesConfig) check() error {
	for host, r := range c {
		for _, name := range append([]string{host}, r.Mirrors...) {
			if name == "" || strings.Contains(name, "://") || strings.ContainsAny(name, " @?#") {
				return fmt.Errorf("registries: %q is not the host of a registry: leave the scheme out", bindery.Printable(name))
			}
		}
		for key, file := range map[string]string{"ca": r.CA, "credentials_file": r.CredentialsFile} {
			if file != "" && !filepath.IsAbs(file) {
				return fmt.Errorf("registries: %s of %q is not an absolute path", key, bindery.Printable(host))
			}
		}
	}
	return nil
}
