package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/bindery-hub/bindery/buildkit"
)

// condaConfig says where conda channels are, and how to get into the private ones.
type condaConfig struct {
	Channels        map[string]string `yaml:"channels"`
	CredentialsFile string            `yaml:"credentials_file"`
}

var condaChannelRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./+-]*$`)

// check refuses what would end in a log or in an image: passwords belong into the credentials file.
func (c condaConfig) check() error {
	for _, name := range slices.Sorted(maps.Keys(c.Channels)) {
		if err := checkCondaURL(c.Channels[name]); err != nil {
			return fmt.Errorf("conda.channels: %s: %w", name, err)
		}
		if strings.Contains(name, "://") {
			if err := checkCondaURL(name); err != nil {
				return fmt.Errorf("conda.channels: %w", err)
			}
		} else if !condaChannelRE.MatchString(name) {
			return fmt.Errorf("conda.channels: %q is neither the name of a channel nor its URL", name)
		}
	}
	return nil
}

func checkCondaURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || !isWeb(s):
		return fmt.Errorf("%q is not a URL such as https://conda.example.org/channel", redacted(s))
	case u.User != nil || strings.Contains(u.Path, "/t/"):
		return fmt.Errorf("%q has a password or a token in it: those belong into conda.credentials_file", u.Redacted())
	case strings.ContainsAny(s, "\"'\\ "):
		return fmt.Errorf("%q has a character that URLs do not have", u.Redacted())
	}
	return nil
}

// condaSecrets are the tokens and passwords of the credentials file. Nothing but rattler sees them, and logs are cleaned
// of them all the same.
func condaSecrets(c condaConfig) []string {
	if c.CredentialsFile == "" {
		return nil
	}
	data, err := os.ReadFile(c.CredentialsFile)
	if err != nil {
		return nil // the engine reports it
	}
	var hosts map[string]map[string]any
	if json.Unmarshal(data, &hosts) != nil {
		return nil
	}
	var all []string
	for _, host := range hosts {
		for _, kind := range host {
			switch v := kind.(type) {
			case string:
				all = append(all, v)
			case map[string]any:
				if word, ok := v["password"].(string); ok {
					all = append(all, word)
				}
			}
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(s string) bool { return s == "" })
}

// withConda adds to trust where channels are.
func withConda(trust buildkit.Trust, c condaConfig) buildkit.Trust {
	trust.Conda = c.Channels
	return trust
}
