package inventory

// ProvenanceType is the predicate type of an in-toto statement that says how something was made.
const ProvenanceType = "https://slsa.dev/provenance/v1"

// A Making is what provenance says of a build, beside what was installed.
type Making struct {
	Repository string // URL; empty for a directory of somebody's machine
	Commit     string
	Subdir     string
	Base       string // what it was built on
	Generation string // of the builder
	EnvKey     string
	ImageKey   string
	Plan       any // what the repository's files ask for
}

// Provenance returns an SLSA v1 predicate. It has no clock and no machine in it: equal builds say the same.
func (inv Inventory) Provenance(m Making) []byte {
	type resource struct {
		URI         string            `json:"uri,omitempty"`
		Digest      map[string]string `json:"digest,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	parameters := map[string]any{"base": m.Base, "plan": m.Plan}
	var from []resource
	if m.Repository != "" {
		r := resource{URI: "git+" + m.Repository}
		if m.Commit != "" {
			r.URI += "@" + m.Commit
			r.Digest = map[string]string{"gitCommit": m.Commit}
		}
		from = append(from, r)
		parameters["repository"] = map[string]string{"url": m.Repository, "commit": m.Commit, "subdir": m.Subdir}
	}
	for _, p := range inv.Packages {
		from = append(from, resource{URI: inv.purl(p), Annotations: map[string]string{"place": p.Place}})
	}
	return []byte(indented(map[string]any{
		"buildDefinition": map[string]any{
			"buildType":            "https://github.com/bindery-hub/bindery/build/v1",
			"externalParameters":   parameters,
			"internalParameters":   map[string]string{"environmentKey": m.EnvKey, "imageKey": m.ImageKey},
			"resolvedDependencies": from,
		},
		"runDetails": map[string]any{
			"builder": map[string]any{"id": "https://github.com/bindery-hub/bindery", "version": map[string]string{"generation": m.Generation}},
		},
	}))
}
