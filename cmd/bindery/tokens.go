package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"

	"go.yaml.in/yaml/v3"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/web"
)

// A tokenConfig is a token of the native API. Written as its sum alone it may do everything.
type tokenConfig struct {
	SHA256 string    `yaml:"sha256"`
	Name   string    `yaml:"name"`
	Scope  api.Scope `yaml:"scope"`
}

// UnmarshalYAML reads a sum, or a map with more.
func (t *tokenConfig) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&t.SHA256)
	}
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 { // the decoder's strictness ends at this method
		if k := n.Content[i].Value; k != "sha256" && k != "name" && k != "scope" {
			return fmt.Errorf("line %d: unknown key %q", n.Content[i].Line, bindery.Printable(k))
		}
	}
	type plain tokenConfig
	return n.Decode((*plain)(t))
}

var tokenNameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (t tokenConfig) check() error {
	if raw, err := hex.DecodeString(t.SHA256); err != nil || len(raw) != sha256.Size {
		return errors.New("an entry is not the SHA-256 sum of a token, in hexadecimal")
	}
	if t.Name != "" && !tokenNameRE.MatchString(t.Name) {
		return fmt.Errorf("%q is not a name of letters, digits, dots, dashes and underscores", bindery.Printable(t.Name))
	}
	if t.Scope != "" && !t.Scope.Includes(api.ScopeRead) {
		return fmt.Errorf("%q is not a scope: read, launch or admin", bindery.Printable(string(t.Scope)))
	}
	return nil
}

func webTokens(all []tokenConfig) (out []web.Token) {
	for _, t := range all {
		out = append(out, web.Token{Hash: t.SHA256, Name: t.Name, Scope: t.Scope})
	}
	return out
}
