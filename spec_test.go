package bindery_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
)

func provider(t testing.TB, id string) bindery.Provider {
	t.Helper()
	for _, p := range bindery.DefaultProviders() {
		if p.ID == id {
			return p
		}
	}
	t.Fatalf("there is no provider %s", id)
	return bindery.Provider{}
}

func TestParseSpec(t *testing.T) {
	const id32 = "8f7c2f0341ef4180b0dbe97f59130756"
	sha := strings.Repeat("a", 40)
	for _, c := range []struct{ id, raw, wantProvider, wantURL, wantRef string }{
		{"gh", "o/r/main", "git", "https://github.com/o/r", "main"},
		{"gh", "o/r.git/br/anch/", "git", "https://github.com/o/r", "br/anch"},
		{"gh", "o/r/feature%2Fx", "git", "https://github.com/o/r", "feature/x"},
		{"gh", "o/r/HEAD", "git", "https://github.com/o/r", ""},
		{"gist", "ann/8a658f7f63b1", "git", "https://gist.github.com/ann/8a658f7f63b1.git", ""},
		{"gist", "ann/8a658f7f63b1/master", "git", "https://gist.github.com/ann/8a658f7f63b1.git", ""},
		{"gist", "ann/8a658f7f63b1/" + sha + "/more", "git", "https://gist.github.com/ann/8a658f7f63b1.git", sha},
		{"git", "git%40github.com%3Aa%2Fb/main", "git", "ssh://git@github.com/a/b", "main"},
		{"git", "https%3A%2F%2Fhost.example%2Fa/br%2Fx", "git", "https://host.example/a", "br/x"},
		{"gl", "group%2Fproj/feature%2Fx", "git", "https://gitlab.com/group/proj.git", "feature/x"},
		{"gl", "a%2Fb%2Fc/v1", "git", "https://gitlab.com/a/b/c.git", "v1"},
		{"zenodo", "10.5281/zenodo.3242074/", "zenodo", "https://doi.org/10.5281/zenodo.3242074", "10.5281/zenodo.3242074"},
		{"figshare", "10.6084/m9.figshare.9782777.v1", "figshare", "https://doi.org/10.6084/m9.figshare.9782777.v1", "10.6084/m9.figshare.9782777.v1"},
		{"dataverse", "10.7910/DVN/TJCLKP", "dataverse", "https://doi.org/10.7910/DVN/TJCLKP", "10.7910/DVN/TJCLKP"},
		{"hydroshare", id32, "hydroshare", "https://www.hydroshare.org/resource/" + id32, ""},
		{"hydroshare", "https%3A%2F%2Fwww.hydroshare.org%2Fresource%2F" + id32, "hydroshare", "https://www.hydroshare.org/resource/" + id32, ""},
		{"ckan", "https%3A%2F%2Fdemo.ckan.org%2Fdataset%2Fx%3Factivity_id%3D9", "ckan", "https://demo.ckan.org/dataset/x?activity_id=9", ""},
		{"swh", "swh:1:rev:" + sha + ";origin=https:%2F%2Fx", "swh", "https://archive.softwareheritage.org/swh:1:rev:" + sha, ""},
	} {
		got, err := provider(t, c.id).ParseSpec(c.raw)
		want := bindery.Source{Provider: c.wantProvider, URL: c.wantURL, Ref: c.wantRef}
		if err != nil || got != want {
			t.Errorf("%s/%s is %+v, %v; want %+v", c.id, c.raw, got, err, want)
		}
	}
}

// What a link says becomes part of addresses that are asked with the hub's tokens, and of names of programs' arguments.
func TestParseSpecRefuses(t *testing.T) {
	for _, c := range [][2]string{
		{"gh", ""}, {"gh", "o"}, {"gh", "o/r"}, {"gh", "../r/main"}, {"gh", "o/../main"}, {"gh", "%2e%2e/r/main"}, {"gh", "o%2Fx/r/main"},
		{"gh", "o?x/r/main"}, {"gh", "o/r%3Fper_page=1/main"}, {"gh", "o/r/-x"}, {"gh", "o/r/a..b"}, {"gh", "o/r/a%00b"}, {"gh", "o/r/%"},
		{"gh", "o/r/..%2F..%2Fuser"}, {"gh", "-o/r/x"}, {"gh", "o@host/r/x"}, {"gh", "o:p@host/r/x"}, {"gh", "o/r/" + strings.Repeat("a", 3000)},
		{"gist", "ann"}, {"gist", "ann/../x"}, {"gist", "ann/%2e%2e"}, {"gist", "ann/a-b"},
		{"gl", "proj/main"}, {"gl", "a%2F..%2Fb/main"}, {"gl", "a%2Fb"}, {"gl", "a%2Fb%3Fx/main"}, {"gl", "a%2Fb/-x"},
		{"git", "https%3A%2F%2Fh%2Fo%2F..%2Fr/main"}, {"git", "https%3A%2F%2Fh%2Fr%3Fx=1/main"}, {"git", "https%3A%2F%2Fh%2Fr%23x/main"}, {"ckan", "https%3A%2F%2Fh%2Fdataset%2F..%2Fdataset%2Fx"},
		{"git", "x"}, {"git", "https%3A%2F%2Fu%3Ap%40h%2Fr/main"}, {"git", "ext%3A%3Ash/main"}, {"git", "--upload-pack%3Dx/main"},
		{"zenodo", "zenodo.3"}, {"zenodo", "10.5281/../../x"}, {"zenodo", "10.5281/zenodo.1%3Fx"}, {"zenodo", "10.5281/a%0Ab"}, {"zenodo", "11.5281/a"}, {"zenodo", "10.5281/"},
		{"zenodo", "https:%2F%2Fevil.example%2F10.5281%2Fzenodo.1"}, {"dataverse", "10.7910/DVN/\u00fc"},
		{"hydroshare", "nothing"}, {"hydroshare", "8F7C2F0341EF4180B0DBE97F59130756"},
		{"ckan", "https%3A%2F%2Fdemo.ckan.org%2Fgroup%2Froger"}, {"ckan", "file%3A%2F%2F%2Fdataset%2Fx"}, {"ckan", "https%3A%2F%2Fu%40h%2Fdataset%2Fx"}, {"ckan", "dataset%2Fx"},
		{"swh", "swh:1:cnt:" + strings.Repeat("a", 40)}, {"swh", "swh:2:rev:" + strings.Repeat("a", 40)}, {"swh", "swh:1:rev:xyz"},
	} {
		got, err := provider(t, c[0]).ParseSpec(c[1])
		if err == nil {
			t.Errorf("%s/%s is %+v, want an error", c[0], c[1], got)
			continue
		}
		if e := bindery.AsError(err); e.Fault != bindery.User || e.Remedy == "" || strings.Contains(e.Error(), "u:p@") {
			t.Errorf("%s/%s: %#v", c[0], c[1], e)
		}
	}
	_, err := provider(t, "gh").ParseSpec("o/r")
	if want := `Spec is not of the form "user/repo/ref", provided: "o/r". Did you mean "o/r/HEAD"?`; bindery.AsError(err).Msg != want {
		t.Errorf("got %q, want %q", bindery.AsError(err).Msg, want)
	}
	own := bindery.Provider{ID: "data", Kind: bindery.ProviderCKAN, URL: "https://data.example"}.WithDefaults()
	if _, err := own.ParseSpec("https%3A%2F%2Fdata.example.evil%2Fdataset%2Fx"); !errors.Is(err, bindery.ErrNotAllowed) {
		t.Errorf("a dataset elsewhere: %v", err)
	}
}

func TestResolvedNames(t *testing.T) {
	sha := strings.Repeat("b", 40)
	for _, c := range []struct{ id, raw, page, commit, wantSpec, wantRefURL, wantSlug string }{
		{"gh", "O/r/main", "", sha, "O/r/" + sha, "https://github.com/O/r/tree/" + sha, "O-r"},
		{"gist", "ann/8a65", "", sha, "ann/8a65/" + sha, "https://gist.github.com/ann/8a65/" + sha, "8a65"},
		{"gl", "gitlab-org%2Fgitlab-foss/v1", "", sha, "gitlab-org%2Fgitlab-foss/" + sha, "https://gitlab.com/gitlab-org/gitlab-foss/tree/" + sha, "gitlab_-org-gitlab_-foss"},
		{"git", "https%3A%2F%2Fh.example%2Fr/main", "", sha, "https%3A%2F%2Fh.example%2Fr/" + sha, "https://h.example/r", "https://h.example/r"},
		{"zenodo", "10.5281/zenodo.3242073", "https://zenodo.org/records/3242074", "3242074", "10.5281/zenodo.3242074", "https://doi.org/10.5281/zenodo.3242074", "zenodo-3242074"},
		{"zenodo", "10.5281/zenodo.3242073", "https://other.example/records/3242074", "3242074", "10.5281/zenodo.3242074", "https://doi.org/10.5281/zenodo.3242074", "zenodo-other.example-3242074"},
		{"figshare", "10.6084/m9.figshare.9782777", "https://figshare.com/articles/9782777", "9782777.v3", "10.6084/m9.figshare.9782777.v3", "https://doi.org/10.6084/m9.figshare.9782777.v3", "figshare-9782777.v3"},
		{"dataverse", "10.7910/DVN/TJCLKP", "https://dataverse.harvard.edu/x", "3035124.v4.0", "10.7910/DVN/TJCLKP", "https://doi.org/10.7910/DVN/TJCLKP", "dataverse-dataverse.harvard.edu-dvn-2ftjclkp"},
	} {
		p := provider(t, c.id)
		src, err := p.ParseSpec(c.raw)
		if err != nil {
			t.Fatal(err)
		}
		src.Commit = c.commit
		if c.page != "" {
			src.URL = c.page
		}
		if !src.IsPinned() {
			t.Errorf("%s/%s is not pinned", c.id, c.raw)
		}
		if got := [3]string{p.Spec(src), p.RefURL(src), p.Slug(src)}; got != [3]string{c.wantSpec, c.wantRefURL, c.wantSlug} {
			t.Errorf("%s/%s: %q, want %q %q %q", c.id, c.raw, got, c.wantSpec, c.wantRefURL, c.wantSlug)
		}
		if !p.IsArchive() {
			if again, err := p.ParseSpec(p.Spec(src)); err != nil || again.Identity() != src.Identity() || again.Ref != c.commit {
				t.Errorf("the resolved spec of %s/%s names %+v, %v", c.id, c.raw, again, err)
			}
		}
	}
}

// One repository is one, however it is spelled: bans, quotas and caches hang on it.
func TestSpellingsOfOneRepository(t *testing.T) {
	const github, gitlab = "https%3A%2F%2Fgithub.com", "https%3A%2F%2Fgitlab.com"
	for _, c := range []struct{ identity, owner, id, spec string }{
		{"git:https://github.com/org/repo", "gh/org", "gh", "Org/Repo/main org/repo.git/main org/repo.GIT/main"},
		{"git:https://github.com/org/repo", "gh/org", "git", github + "%2Forg%2Frepo/main http%3A%2F%2FGitHub.com%2Forg%2Frepo.git%2F/main https%3A%2F%2Fwww.github.com%2Forg%2Frepo/main"},
		{"git:https://github.com/org/repo", "gh/org", "git", github + "%3A443%2Forg%2Frepo/main " + github + "%3A%2Forg%2Frepo/main " + github + "%3A0443%2Forg%2Frepo/main http%3A%2F%2Fgithub.com%3A80%2Forg%2Frepo/main"},
		{"git:https://github.com/org/repo", "gh/org", "git", github + ".%2Forg%2Frepo/main " + github + ".%3A443%2F%2Forg%2F%2F%2Frepo.git%2F%2F/main " + github + "%2F%256frg%2Frepo%252egit/main " + github + "%2Forg%252Frepo/main"},
		{"git:https://github.com/org/repo", "gh/org", "git", "git%40github.com%3Aorg%2Frepo/main git%40github.com%3AOrg%2Frepo.git/main ssh%3A%2F%2Fgithub.com%3A22%2Forg%2Frepo/main ssh%3A%2F%2Fgit%40ssh.github.com%3A443%2Forg%2Frepo/main git%3A%2F%2Fgithub.com%2Forg%2Frepo/main"},
		{"git:https://gitlab.com/org/repo", "gl/org", "gl", "org%2Frepo/main Org%2FRepo.git/main %2Forg%2Frepo/main %6frg%2Frepo/main"},
		{"git:https://gitlab.com/org/repo", "gl/org", "git", gitlab + "%2Forg%2FRepo/main http%3A%2F%2Fgitlab.com%2Forg%2Frepo/main git%40gitlab.com%3Aorg%2Frepo.git/main ssh%3A%2F%2Fgit%40altssh.gitlab.com%3A443%2Forg%2Frepo/main"},
		{"git:https://host.example/O/r", "git/host.example/O", "git", "https%3A%2F%2Fhost.example%2FO%2Fr/main http%3A%2F%2Fhost.example%2FO%2Fr/main git%40host.example%3AO%2Fr/main ssh%3A%2F%2Fann%40host.example%3A2222%2FO%2Fr.git/main"},
		{"ckan:https://one.example/dataset/x", "ckan/one.example/dataset/x", "ckan", "https%3A%2F%2Fone.example%2Fdataset%2Fx https%3A%2F%2FOne.example.%3A443%2F%2Fdataset%2Fx%2F%3Fy=1%23z"},
	} {
		for spec := range strings.FieldsSeq(c.spec) {
			src, err := provider(t, c.id).ParseSpec(spec)
			if err != nil || src.Identity() != c.identity || src.Owner() != c.owner {
				t.Errorf("%s/%s: %q of %q, %v", c.id, spec, src.Identity(), src.Owner(), err)
			}
		}
	}
	a, _ := provider(t, "ckan").ParseSpec("https%3A%2F%2Fone.example%2Fdataset%2Fx")
	b, _ := provider(t, "ckan").ParseSpec("https%3A%2F%2Ftwo.example%2Fdataset%2Fx")
	if p := provider(t, "ckan"); a.Identity() == b.Identity() || p.Slug(a) == p.Slug(b) || a.Owner() == b.Owner() {
		t.Error("equal names at two hosts are taken for one dataset")
	}
	// A record may be older than these rules.
	old := bindery.Source{Provider: bindery.ProviderGit, URL: "https://GitHub.com:443//Org/Repo.git?x=1#y"}
	if old.Identity() != "git:https://github.com/org/repo" {
		t.Error(old.Identity())
	}
}

func TestRegistryName(t *testing.T) {
	const prefix, sha = "r.io/p/bh-", "50533eb470ee6c24e872043d30b2fee463d6943f"
	for _, c := range [][3]string{
		{"binder-examples-requirements", sha, "r.io/p/bh-binder-2dexamples-2drequirements-55ab5c:" + sha},
		{"Binder-Examples-requirements", sha, "r.io/p/bh-binder-2dexamples-2drequirements-d9f1b0:" + sha},
		{"jupyterhub-zero-to-jupyterhub-k8s", "f7f3ff6d1bf708bdc12e5f10e18b2a90a4795603", "r.io/p/bh-jupyterhub-2dzero-2dto-2djupyterhub-2dk8s-b3e028:f7f3ff6d1bf708bdc12e5f10e18b2a90a4795603"},
		{"dataverse-dvn-2ftjclkp", "3035124.v3.0", "r.io/p/bh-dataverse-2ddvn-2d2ftjclkp-a1371f:3035124.v3.0"},
		{"zenodo-3242074", "3242074", "r.io/p/bh-zenodo-2d3242074-b993d2:3242074"},
		{"https://github.com/binder-examples/conda", "0349", "r.io/p/bh-https-3a-2f-2fgithub-2ecom-2fbinder-2dexamples-2fconda-3ffdf0:0349"},
		{"gitlab_-org-gitlab_-foss", "b334", "r.io/p/bh-gitlab-5f-2dorg-2dgitlab-5f-2dfoss-a53a80:b334"},
		{"üser-x_", "abc", "r.io/p/bh--c3-bcser-2dx-5f-982587:abc"},
		{strings.Repeat("a", 300), "deadbeef", "r.io/p/bh-" + strings.Repeat("a", 238) + "-9835fa:deadbeef"},
	} {
		if got := bindery.RegistryName(prefix, c[0], c[1]); got != c[2] {
			t.Errorf("%q at %q is %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestDisplay(t *testing.T) {
	for id, want := range map[string]string{
		"gh":         `{"displayName":"GitHub","id":"gh","spec":{"validateRegex":"[^/]+/[^/]+/.+"},"detect":{"regex":"^(https?://github.com/)?(?<repo>.*[^/])/?"},"repo":{"label":"GitHub repository name or URL","placeholder":"example: binder-examples/requirements or https://github.com/binder-examples/requirements","urlEncode":false},"ref":{"enabled":true,"default":"HEAD"}}`,
		"gist":       `{"displayName":"GitHub Gist","id":"gist","spec":{"validateRegex":"[^/]+/[^/]+(/[^/]+)?"},"detect":{"regex":"^(https?://gist.github.com/)?(?<repo>.*[^/])/?"},"repo":{"label":"Gist ID (username/gistId) or URL","placeholder":"","urlEncode":false},"ref":{"enabled":true,"default":"HEAD"}}`,
		"gl":         `{"displayName":"GitLab","id":"gl","spec":{"validateRegex":"[^/]+/.+"},"detect":{"regex":"^(https?://gitlab.com/)?(?<repo>.*[^/])/?"},"repo":{"label":"GitLab repository name or URL","placeholder":"example: https://gitlab.com/mosaik/examples/mosaik-tutorials-on-binder or mosaik/examples/mosaik-tutorials-on-binder","urlEncode":true},"ref":{"enabled":true,"default":"HEAD"}}`,
		"git":        `{"displayName":"Git repository","id":"git","spec":{"validateRegex":"[^/]+/.+"},"repo":{"label":"Arbitrary git repository URL","placeholder":"example: http://git.example.com/repo","urlEncode":true},"ref":{"enabled":true,"default":"HEAD"}}`,
		"figshare":   `{"displayName":"FigShare DOI","id":"figshare","spec":{"validateRegex":"10\\.\\d+\\/(.)+"},"repo":{"label":"FigShare DOI","placeholder":"example: 10.6084/m9.figshare.9782777.v1","urlEncode":false},"ref":{"enabled":false}}`,
		"hydroshare": `{"displayName":"Hydroshare resource","id":"hydroshare","spec":{"validateRegex":"[^/]+"},"repo":{"label":"Hydroshare resource id","placeholder":"example: 8f7c2f0341ef4180b0dbe97f59130756","urlEncode":true},"ref":{"enabled":false}}`,
		"dataverse":  `{"displayName":"Dataverse DOI","id":"dataverse","spec":{"validateRegex":"10\\.\\d+\\/(.)+"},"repo":{"label":"Dataverse DOI","placeholder":"example: 10.7910/DVN/TJCLKP","urlEncode":false},"ref":{"enabled":false}}`,
		"zenodo":     `{"displayName":"Zenodo DOI","id":"zenodo","spec":{"validateRegex":"10\\.\\d+\\/(.)+"},"repo":{"label":"Zenodo DOI","placeholder":"example: 10.5281/zenodo.3242074","urlEncode":false},"ref":{"enabled":false}}`,
		"ckan":       `{"displayName":"CKAN dataset","id":"ckan","spec":{"validateRegex":"[^/]+"},"repo":{"label":"CKAN dataset URL","placeholder":"https://demo.ckan.org/dataset/my-sample-dataset-001","urlEncode":true},"ref":{"enabled":false}}`,
	} {
		var got, wanted any
		text, err := json.Marshal(provider(t, id).Display())
		if err != nil || json.Unmarshal(text, &got) != nil || json.Unmarshal([]byte(want), &wanted) != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add(0, "o/r/main")
	f.Add(1, "ann/8a658f7f63b1")
	f.Add(3, "group%2Fproj/x")
	f.Add(8, "https%3A%2F%2Fh%2Fdataset%2Fx")
	all := bindery.DefaultProviders()
	f.Fuzz(func(t *testing.T, n int, raw string) {
		p := all[((n%len(all))+len(all))%len(all)]
		src, err := p.ParseSpec(raw)
		if err != nil {
			return
		}
		if strings.HasPrefix(src.URL, "-") || strings.HasPrefix(src.Ref, "-") || strings.ContainsAny(src.URL+src.Ref, "\n\r\x00") {
			t.Errorf("%s/%q lets through %+v", p.ID, raw, src)
		}
		if p.URL != "" && p.Kind != bindery.ProviderCKAN && !strings.HasPrefix(src.URL, p.URL+"/") && !strings.HasPrefix(src.URL, p.DOI+"/") {
			t.Errorf("%s/%q leads to %s", p.ID, raw, src.URL)
		}
	})
}
