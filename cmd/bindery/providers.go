package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source"
)

// providersConfig is by prefix. A prefix that is not one of the known kinds says by its kind what it is.
type providersConfig map[string]providerConfig

type providerConfig struct {
	Kind        string `yaml:"kind"`
	Name        string `yaml:"name"`
	URL         string `yaml:"url"`
	API         string `yaml:"api"`
	DOI         string `yaml:"doi"`
	TokenFile   string `yaml:"token_file"`
	User        string `yaml:"user"`
	SecretGists bool   `yaml:"secret_gists"`
	Off         bool   `yaml:"off"`
}

// all are the providers: the usual ones as configured, in the usual order, then one's own by their prefix.
func (c providersConfig) all() []source.Provider {
	var out []source.Provider
	order := bindery.DefaultProviders()
	usual := map[string]bool{}
	for _, p := range order {
		usual[p.ID] = true
	}
	for _, id := range slices.Sorted(maps.Keys(c)) {
		if !usual[id] {
			order = append(order, bindery.Provider{ID: id, Kind: c[id].Kind})
		}
	}
	for _, p := range order {
		set := c[p.ID]
		if set.Off {
			continue
		}
		made := bindery.Provider{ID: p.ID, Kind: p.Kind, Name: set.Name, URL: set.URL, API: set.API, DOI: set.DOI}.WithDefaults()
		out = append(out, source.Provider{Provider: made, TokenFile: set.TokenFile, User: set.User, SecretGists: set.SecretGists})
	}
	return out
}

// links are the providers as pages and links know them.
func (c providersConfig) links() []bindery.Provider {
	var out []bindery.Provider
	for _, p := range c.all() {
		out = append(out, p.Provider)
	}
	return out
}

func (c providersConfig) check() error {
	for id, set := range c {
		usual := bindery.Provider{ID: id}.WithDefaults().Name != ""
		switch {
		case !usual && set.Kind == "":
			return fmt.Errorf("providers: %q is none of the usual ones, so it needs a kind", bindery.Printable(id))
		case usual && set.Kind != "" && set.Kind != id:
			return fmt.Errorf("providers: %q is of the kind %s; use another prefix", bindery.Printable(id), bindery.Printable(id))
		case set.TokenFile != "" && !filepath.IsAbs(set.TokenFile):
			return fmt.Errorf("providers: token_file of %q is not an absolute path", bindery.Printable(id))
		}
		if err := (bindery.Provider{ID: id, Kind: set.Kind, URL: set.URL, API: set.API, DOI: set.DOI}).WithDefaults().Check(); err != nil {
			return fmt.Errorf("providers: %s: %w", bindery.Printable(id), err)
		}
	}
	if len(c.all()) == 0 {
		return errors.New("providers: all of them are off")
	}
	return nil
}

// tokens are what must not be in any log. A file that cannot be read is said when it is needed.
func (c providersConfig) tokens() []string {
	var all []string
	for _, set := range c {
		text, err := os.ReadFile(set.TokenFile)
		if token := strings.TrimSpace(string(text)); err == nil && token != "" {
			all = append(all, token)
		}
	}
	return all
}
