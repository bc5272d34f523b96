package inventory

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// SPDXType is the predicate type of an in-toto statement that holds an SPDX document.
const SPDXType = "https://spdx.dev/Document"

// SPDX returns the inventory as an SPDX 2.3 document in JSON, named for the image. It has no clock: creation is at the
// epoch, so that equal images have equal documents.
func (inv Inventory) SPDX(name, tool string) []byte {
	type ref struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	type pkg struct {
		ID       string `json:"SPDXID"`
		Name     string `json:"name"`
		Version  string `json:"versionInfo"`
		Location string `json:"downloadLocation"`
		Analyzed bool   `json:"filesAnalyzed"`
		License  string `json:"licenseConcluded"`
		Declared string `json:"licenseDeclared"`
		Copy     string `json:"copyrightText"`
		Refs     []ref  `json:"externalRefs"`
	}
	type relation struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
	doc := struct {
		Version   string         `json:"spdxVersion"`
		License   string         `json:"dataLicense"`
		ID        string         `json:"SPDXID"`
		Name      string         `json:"name"`
		Namespace string         `json:"documentNamespace"`
		Creation  map[string]any `json:"creationInfo"`
		Packages  []pkg          `json:"packages"`
		Relations []relation     `json:"relationships"`
	}{Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: name,
		Creation: map[string]any{"created": "1970-01-01T00:00:00Z", "creators": []string{"Tool: " + tool}},
		Packages: []pkg{}, Relations: []relation{},
	}
	all := sha256.New()
	for _, p := range inv.Packages {
		locator := inv.purl(p)
		sum := sha256.Sum256([]byte(locator + " " + p.Place))
		fmt.Fprintf(all, "%s %s\n", locator, p.Place)
		location := p.Source
		if location == "" || !strings.Contains(location, "://") {
			location = "NOASSERTION"
		}
		id := "SPDXRef-Package-" + hex.EncodeToString(sum[:8])
		doc.Packages = append(doc.Packages, pkg{ID: id, Name: p.Name, Version: p.Version, Location: location,
			License: "NOASSERTION", Declared: "NOASSERTION", Copy: "NOASSERTION", Refs: []ref{{"PACKAGE-MANAGER", "purl", locator}}})
		doc.Relations = append(doc.Relations, relation{doc.ID, "DESCRIBES", id})
	}
	doc.Namespace = "https://bindery.invalid/spdx/" + url.PathEscape(name) + "-" + hex.EncodeToString(all.Sum(nil))[:16]
	return []byte(indented(doc))
}

// purl is the package's URL, https://github.com/package-url/purl-spec.
func (inv Inventory) purl(p Package) string {
	name, space := p.Name, ""
	if p.Ecosystem == NPM {
		if scope, rest, ok := strings.Cut(name, "/"); ok {
			space, name = url.QueryEscape(scope)+"/", rest
		}
	}
	query := url.Values{}
	switch p.Ecosystem {
	case Debian:
		space = "debian/"
		if id, _, _ := strings.Cut(inv.Distribution, " "); id != "" {
			space = id + "/"
		}
		if p.Arch != "" {
			query.Set("arch", p.Arch)
		}
		if inv.Codename != "" {
			query.Set("distro", inv.Codename)
		}
	case Python:
		name = normal(name)
	case Conda:
		if p.Build != "" {
			query.Set("build", p.Build)
		}
	}
	out := "pkg:" + p.Ecosystem + "/" + space + url.PathEscape(name) + "@" + url.QueryEscape(p.Version)
	if len(query) > 0 {
		out += "?" + query.Encode()
	}
	return out
}
