package main

import (
	"errors"
	"fmt"
	"path/filepath"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/oauth"
	"github.com/bindery-hub/bindery/web"
)

// A loginConfig says where visitors sign in. Without it nobody has to.
type loginConfig struct {
	AuthorizeURL string   `yaml:"authorize_url"`
	TokenURL     string   `yaml:"token_url"`
	UserURL      string   `yaml:"user_url"`
	UserField    string   `yaml:"user_field"`
	ClientID     string   `yaml:"client_id"`
	SecretFile   string   `yaml:"client_secret_file"`
	Scope        string   `yaml:"scope"`
	Users        []string `yaml:"users"`
}

func (c loginConfig) off() bool {
	return c.AuthorizeURL+c.TokenURL+c.UserURL+c.UserField+c.ClientID+c.SecretFile+c.Scope == "" && len(c.Users) == 0
}

// check wants all of it or nothing: half of a lock is an open door.
func (c loginConfig) check() error {
	if c.off() {
		return nil
	}
	for key, value := range map[string]string{
		"authorize_url": c.AuthorizeURL, "token_url": c.TokenURL, "user_url": c.UserURL, "user_field": c.UserField, "client_id": c.ClientID, "client_secret_file": c.SecretFile,
	} {
		if value == "" {
			return fmt.Errorf("login.%s is missing", key)
		}
	}
	for key, url := range map[string]string{"authorize_url": c.AuthorizeURL, "token_url": c.TokenURL, "user_url": c.UserURL} {
		if err := checkURL(url); err != nil {
			return fmt.Errorf("login.%s: %w", key, err)
		}
	}
	if !filepath.IsAbs(c.SecretFile) {
		return errors.New("login.client_secret_file is not an absolute path")
	}
	for _, name := range c.Users {
		if name == "" || bindery.Printable(name) != name {
			return fmt.Errorf("login.users: %q is not a name", bindery.Printable(name))
		}
	}
	return nil
}

// server is nil where nobody has to sign in.
func (c loginConfig) server() (web.Login, error) {
	if c.off() {
		return nil, nil
	}
	return oauth.New(oauth.Config{
		AuthorizeURL: c.AuthorizeURL, TokenURL: c.TokenURL, UserURL: c.UserURL, UserField: c.UserField,
		ClientID: c.ClientID, SecretFile: c.SecretFile, Scope: c.Scope,
	})
}
