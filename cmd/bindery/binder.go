package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

// defaultRateLimit is BinderHub's: of requests without a token of a page, by one address, in an hour.
const defaultRateLimit = 10

// binderConfig are the settings that a hub has in common with BinderHub, under the names that they have there where
// those can be kept.
type binderConfig struct {
	BaseURL          string            `yaml:"base_url"`
	BadgeBaseURL     string            `yaml:"badge_base_url"`
	ImagePrefix      string            `yaml:"image_prefix"`
	APIOnly          bool              `yaml:"enable_api_only_mode"`
	SecretFile       string            `yaml:"build_token_secret_file"`
	TokenExpires     time.Duration     `yaml:"build_token_expires"`
	TokenCheckOrigin *bool             `yaml:"build_token_check_origin"`
	RateLimit        rateLimitConfig   `yaml:"rate_limit"`
	BanNetworks      map[string]string `yaml:"ban_networks"`
	PerRepoQuota     int               `yaml:"per_repo_quota"`
	PerRepoHigher    int               `yaml:"per_repo_quota_higher"`
	Specs            specsConfig       `yaml:"specs"`
	AgentsFile       string            `yaml:"agents_file"`
	Metrics          *bool             `yaml:"metrics"`
	Archive          archiveConfig     `yaml:"archive"`
	Headers          map[string]string `yaml:"headers"`
	ExtraStatic      string            `yaml:"extra_static_path"`
	SocialTitle      string            `yaml:"default_opengraph_title"`
}

type archiveConfig struct {
	Dir  string `yaml:"dir"`
	Days int    `yaml:"days"`
}

type rateLimitConfig struct {
	Requests *int          `yaml:"requests"`
	Window   time.Duration `yaml:"window"`
}

// specsConfig is by provider: gh, git, ...
type specsConfig map[string]specRules

type specRules struct {
	Banned    []string     `yaml:"banned_specs"`
	Allowed   []string     `yaml:"allowed_specs"`
	HighQuota []string     `yaml:"high_quota_specs"`
	Config    []specConfig `yaml:"spec_config"`
}

type specConfig struct {
	Pattern string `yaml:"pattern"`
	Config  struct {
		Quota *int `yaml:"quota"`
	} `yaml:"config"`
}

// check has the web server look at what it will be given: it alone knows.
func (b binderConfig) check() error {
	for network := range b.BanNetworks {
		if _, err := parsePrefixes([]string{network}); err != nil {
			return fmt.Errorf("ban_networks: %w", err)
		}
	}
	if err := checkURL(b.BadgeBaseURL); err != nil {
		return fmt.Errorf("badge_base_url: %w", err)
	}
	if b.TokenExpires < 0 || b.RateLimit.Window < 0 {
		return errors.New("times are not negative")
	}
	if err := web.CheckBase(b.BaseURL); err != nil {
		return fmt.Errorf("base_url: %w", err)
	}
	if err := web.CheckImagePrefix(b.ImagePrefix); err != nil {
		return fmt.Errorf("image_prefix: %w", err)
	}
	if err := web.CheckHeaders(b.Headers); err != nil {
		return fmt.Errorf("headers: %w", err)
	}
	if b.ExtraStatic != "" && !filepath.IsAbs(b.ExtraStatic) {
		return errors.New("extra_static_path is not an absolute path")
	}
	if err := b.rules().Check(); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "web: "))
	}
	return nil
}

func (b binderConfig) rules() web.Rules {
	r := web.Rules{
		Requests: defaultRateLimit, Window: b.RateLimit.Window, RepoQuota: b.PerRepoQuota, RepoQuotaHigher: b.PerRepoHigher,
		Specs: map[string]web.SpecRules{},
	}
	if b.RateLimit.Requests != nil {
		r.Requests = *b.RateLimit.Requests
	}
	for network, label := range b.BanNetworks {
		prefix, _ := parsePrefixes([]string{network}) // checked
		for _, p := range prefix {
			r.Networks = append(r.Networks, web.NetworkBan{Prefix: p, Label: label})
		}
	}
	for provider, in := range b.Specs {
		out := web.SpecRules{Banned: in.Banned, Allowed: in.Allowed, HighQuota: in.HighQuota}
		for _, c := range in.Config {
			out.Config = append(out.Config, web.SpecConfig{Pattern: c.Pattern, Quota: c.Config.Quota})
		}
		r.Specs[provider] = out
	}
	return r
}

// static opens the directory of an operator's own files; nil: there is none.
func (b binderConfig) static() (fs.FS, error) {
	if b.ExtraStatic == "" {
		return nil, nil
	}
	root, err := os.OpenRoot(b.ExtraStatic)
	if err != nil {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name a directory that can be read with extra_static_path.", "The directory of static files cannot be read").Because(err)
	}
	return root.FS(), nil
}

// agents reads the list of User-Agents that is to replace the built-in one.
func (b binderConfig) agents() (string, error) {
	if b.AgentsFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(b.AgentsFile)
	if err != nil {
		return "", bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name a file that can be read with agents_file.", "The list of User-Agents cannot be read").Because(err)
	}
	return string(text), nil
}

// secretVariable holds the key of build tokens, in hexadecimal; BinderHub's own name for it works too.
const secretVariable = "BINDERY_BUILD_TOKEN_SECRET"

// buildSecret is what signs build tokens. Replicas of one hub must share it; a hub alone keeps its own.
func (a *app) buildSecret() ([]byte, error) {
	bad := func(where string, err error) error {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Make one with `openssl rand -hex 32`.",
			"%s does not hold a secret of 16 bytes or more, in hexadecimal", where).Because(err)
	}
	text, where := "", ""
	switch {
	case a.cfg.Binder.SecretFile != "":
		raw, err := os.ReadFile(a.cfg.Binder.SecretFile)
		if err != nil {
			return nil, bad("build_token_secret_file", err)
		}
		text, where = string(raw), "build_token_secret_file"
	case a.getenv(secretVariable) != "":
		text, where = a.getenv(secretVariable), secretVariable
	case a.getenv("BINDERHUB_BUILD_TOKEN_SECRET") != "":
		text, where = a.getenv("BINDERHUB_BUILD_TOKEN_SECRET"), "BINDERHUB_BUILD_TOKEN_SECRET"
	default:
		secret, err := a.inst.secret("hub.secret")
		return []byte(secret), err
	}
	raw, err := hex.DecodeString(strings.TrimSpace(text))
	if err == nil && len(raw) < 16 {
		err = errors.New("too short")
	}
	if err != nil {
		return nil, bad(where, nil) // the cause would quote it
	}
	return raw, nil
}
