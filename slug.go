package bindery

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// Slug is the name under which BinderHub files the images of s, except that a host is part of it which is not the one
// that everybody means: two datasets of one name at two addresses are two.
func (p Provider) Slug(s Source) string {
	usual := p.URL == (Provider{Kind: p.Kind}).WithDefaults().URL && strings.HasPrefix(s.URL, p.URL+"/")
	path := strings.TrimSuffix(strings.TrimPrefix(s.URL, p.URL+"/"), ".git")
	parts := strings.Split(path, "/")
	var slug string
	switch p.Kind {
	case ProviderGitHub:
		slug = strings.Join(parts, "-")
	case ProviderGist:
		slug = parts[len(parts)-1]
	case ProviderGitLab:
		for i, part := range parts {
			parts[i] = strings.ReplaceAll(part, "-", "_-")
		}
		slug = strings.Join(parts, "-")
	case ProviderZenodo, ProviderFigshare, ProviderHydroshare:
		return p.Kind + "-" + hostUnless(usual, s.URL) + s.Commit
	case ProviderDataverse:
		_, id, _ := strings.Cut(s.Ref, "/")
		return p.Kind + "-" + hostUnless(false, s.URL) + strings.ToLower(escapism(id))
	case ProviderCKAN:
		return p.Kind + "-" + s.URL
	case ProviderSWH:
		return s.Commit
	default:
		return s.URL
	}
	return hostUnless(usual, s.URL) + slug
}

func hostUnless(usual bool, raw string) string {
	u, err := url.Parse(raw)
	if usual || err != nil {
		return ""
	}
	return u.Host + "-"
}

// escapism keeps letters and digits and writes every other byte as "-" and two hexadecimal digits.
func escapism(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "-%02x", c)
	}
	return b.String()
}

// safeSlug makes of any name one that fits into an image's or a pod's, as BinderHub makes it.
func safeSlug(s string, limit int) string {
	const digits = 6
	sum := sha256.Sum256([]byte(s))
	safe := escapism(s)
	safe = safe[:min(len(safe), max(0, limit-digits-1))]
	return strings.ToLower(safe + "-" + hex.EncodeToString(sum[:])[:digits])
}

// RegistryName is the name that BinderHub gives the image of a slug at a ref, in a registry under prefix.
func RegistryName(prefix, slug, ref string) string {
	name := prefix + safeSlug(slug, 255-len(prefix)) + ":" + ref
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}
