package source

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// An archive is a provider of data sets. It says what state of one a link means, and lists the files of that state.
type archive interface {
	// resolve returns src with the address of its page as URL and its version as Commit.
	resolve(ctx context.Context, d *deposit, src bindery.Source) (bindery.Source, error)
	// list returns the files of src, which is resolved.
	list(ctx context.Context, d *deposit, src bindery.Source) ([]item, error)
}

// A deposit is one operation on one archive.
type deposit struct {
	*op
	p Provider
}

// An item is a file to download.
type item struct {
	path string // where it goes; checked before it is used
	url  string
	size int64  // -1: not told
	sum  string // "md5:..." or "sha256:..."; empty: not told
	kind unpack
}

// unpack says what is done with an item.
type unpack int

const (
	asIs     unpack = iota
	zipAlone        // a zip file is unpacked when it is the only item
	bagged          // a BagIt zip: of it the files below data/contents
	tarred          // a tar file of one directory, whose name in Git is the sum
)

func (s *Sources) archiveOf(kind string) archive {
	switch kind {
	case bindery.ProviderZenodo:
		return zenodo{}
	case bindery.ProviderFigshare:
		return figshare{}
	case bindery.ProviderHydroshare:
		return hydroshare{}
	case bindery.ProviderDataverse:
		return dataverse{}
	case bindery.ProviderCKAN:
		return ckan{}
	case bindery.ProviderSWH:
		return heritage{}
	}
	return nil
}

// providerOf returns the provider that src belongs to: its address tells which of several of one kind. A DOI does not:
// before it is looked up any of them will do.
func (s *Sources) providerOf(src bindery.Source) (Provider, error) {
	var first *Provider
	for _, p := range s.cfg.Providers {
		if p.Kind != src.Provider {
			continue
		}
		if p.URL == "" || within(src.URL, p.URL) {
			return p, nil
		}
		if first == nil && within(src.URL, p.DOI) {
			first = &p
		}
	}
	if first != nil {
		return *first, nil
	}
	return Provider{}, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Begin at the start page: it names the providers of this hub.",
		"This hub does not read %s sources from there: %s", bindery.Printable(src.Provider), bindery.Printable(src.URL))
}

// within reports whether raw is below the address base.
func within(raw, base string) bool { return base != "" && strings.HasPrefix(raw, base+"/") }

// resolveArchive finds what version of a data set a link means now. As with forges, one that is known serves when
// nobody answers.
func (o *op) resolveArchive(ctx context.Context, src bindery.Source) (bindery.Source, error) {
	p, err := o.s.providerOf(src)
	if err != nil {
		return src, err
	}
	if src.Commit != "" && !within(src.URL, p.DOI) {
		return src, nil
	}
	got, err := o.s.archiveOf(p.Kind).resolve(ctx, &deposit{o, p}, src)
	if err == nil && !got.IsPinned() {
		err = unreachable("%s names a version that makes no sense", p.Name)
	}
	if err == nil {
		o.s.answers.put(src, answer{Source: got, Time: time.Now()})
		return got, nil
	}
	old, known := o.s.answers.get(src)
	if !known || definite(err) || ctx.Err() != nil || time.Since(old.Time) > staleFor {
		return src, err
	}
	o.s.cfg.Log.WarnContext(ctx, "an archive does not answer; what is known serves", "source", src.Identity(), "since", old.Time, "err", err)
	src.URL, src.Commit = old.Source.URL, old.Source.Commit
	return src, nil
}

// get asks the archive. The token goes to its own addresses only.
func (d *deposit) get(ctx context.Context, raw string, v any) error {
	r, err := d.ask(ctx, raw)
	if err != nil {
		return err
	}
	if r.status != http.StatusOK {
		return r.refused("this data set")
	}
	return r.read(v)
}

func (d *deposit) ask(ctx context.Context, raw string) (reply, error) {
	header, err := d.header(raw)
	if err != nil {
		return reply{}, err
	}
	header.Set("Accept", "application/json")
	return d.s.guard.ask(ctx, ask{url: raw, header: header})
}

// dataverseKey is the header that Dataverse takes its tokens by.
const dataverseKey = "X-Dataverse-Key"

func (d *deposit) header(raw string) (http.Header, error) {
	header := http.Header{}
	if d.p.TokenFile == "" || (!within(raw, d.p.URL) && !within(raw, d.p.API)) {
		return header, nil
	}
	token, err := d.p.token()
	switch d.p.Kind {
	case bindery.ProviderFigshare:
		header.Set("Authorization", "token "+token)
	case bindery.ProviderCKAN:
		header.Set("Authorization", token)
	case bindery.ProviderDataverse:
		header.Set(dataverseKey, token)
	default:
		header.Set("Authorization", "Bearer "+token)
	}
	return header, err
}

// follow finds out where a DOI leads to, without reading the page there.
func (d *deposit) follow(ctx context.Context, doi string) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := d.s.guard.start(ctx, ask{url: d.p.DOI + "/" + doi})
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close() // only the address matters
	at := resp.Request.URL
	if within(at.String(), d.p.DOI) {
		if resp.StatusCode == http.StatusNotFound {
			return nil, bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "Check the DOI.", "There is no DOI %s", bindery.Printable(doi))
		}
		return nil, unreachable("%s does not say where the DOI %s leads to (status %d)", at.Host, bindery.Printable(doi), resp.StatusCode)
	}
	return at, nil
}

// home checks that an address is the provider's, or that of another instance of its kind, which d then speaks for. A
// DOI of somebody else's must not become one of our names: two archives count from one.
func (d *deposit) home(at *url.URL) error {
	for _, p := range d.s.cfg.Providers {
		u, err := url.Parse(p.URL)
		if err != nil || p.Kind != d.p.Kind {
			continue
		}
		host := strings.TrimPrefix(u.Host, "www.")
		if at.Host == u.Host || at.Host == host || strings.HasSuffix(at.Host, "."+host) {
			d.p = p
			return nil
		}
	}
	return bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "Use the prefix of the archive that has it; the start page knows them.",
		"This DOI leads to %s, which is not %s", bindery.Printable(at.Host), d.p.Name)
}

type zenodo struct{}

// recordRE takes the record out of the addresses that records have had: Invenio's newer ones have letters.
var recordRE = regexp.MustCompile(`/(?:records?|doi/10\.[0-9.]+)/(?:zenodo\.)?([0-9a-z]{1,12}(?:-[0-9a-z]{1,12})?)/?$`)

func (zenodo) resolve(ctx context.Context, d *deposit, src bindery.Source) (bindery.Source, error) {
	at, err := d.follow(ctx, src.Ref)
	if err == nil {
		err = d.home(at)
	}
	if err != nil {
		return src, err
	}
	m := recordRE.FindStringSubmatch(at.EscapedPath())
	if m == nil {
		return src, unreachable("The DOI %s leads to no record but to %s", src.Ref, bindery.Printable(at.Path))
	}
	src.URL, src.Commit = d.p.URL+"/records/"+m[1], m[1]
	return src, nil
}

func (zenodo) list(ctx context.Context, d *deposit, src bindery.Source) ([]item, error) {
	var record struct {
		Links struct{ Files string }
		Files []zenodoFile
	}
	if err := d.get(ctx, d.p.API+"/records/"+src.Commit, &record); err != nil {
		return nil, err
	}
	if record.Links.Files != "" {
		var files struct{ Entries []zenodoFile }
		if err := d.get(ctx, record.Links.Files, &files); err != nil {
			return nil, err
		}
		record.Files = files.Entries
	}
	var items []item
	for _, f := range record.Files {
		link := f.Links.Content
		if link == "" {
			link = f.Links.Self
		}
		items = append(items, item{path: f.Key, url: link, size: sizeOr(f.Size), sum: f.Checksum, kind: zipAlone})
	}
	return items, nil
}

type zenodoFile struct {
	Key      string
	Size     *int64
	Checksum string
	Links    struct{ Content, Self string }
}

func sizeOr(n *int64) int64 {
	if n == nil || *n < 0 {
		return -1
	}
	return *n
}

type figshare struct{}

var (
	articleRE = regexp.MustCompile(`/articles/(?:[^/]+/){0,2}([0-9]{1,12})(?:/([0-9]{1,6}))?/?$`)
	versionRE = regexp.MustCompile(`\.v([0-9]{1,6})$`)
)

func (figshare) resolve(ctx context.Context, d *deposit, src bindery.Source) (bindery.Source, error) {
	at, err := d.follow(ctx, src.Ref)
	if err == nil {
		err = d.home(at)
	}
	if err != nil {
		return src, err
	}
	m := articleRE.FindStringSubmatch(at.Path)
	if m == nil {
		return src, unreachable("The DOI %s leads to no article but to %s", src.Ref, bindery.Printable(at.Path))
	}
	version := ""
	if v := versionRE.FindStringSubmatch(src.Ref); v != nil {
		version = v[1]
	} else {
		var versions []struct{ Version int }
		if err := d.get(ctx, d.p.API+"/articles/"+m[1]+"/versions", &versions); err != nil {
			return src, err
		}
		most := 0
		for _, v := range versions {
			most = max(most, v.Version)
		}
		version = strconv.Itoa(max(1, most))
	}
	src.URL, src.Commit = d.p.URL+"/articles/"+m[1], m[1]+".v"+version
	return src, nil
}

func (figshare) list(ctx context.Context, d *deposit, src bindery.Source) ([]item, error) {
	id, version, _ := strings.Cut(src.Commit, ".v")
	var article struct {
		Files []struct {
			Name        string
			Size        *int64
			DownloadURL string `json:"download_url"`
			ComputedMD5 string `json:"computed_md5"`
			SuppliedMD5 string `json:"supplied_md5"`
			LinkOnly    bool   `json:"is_link_only"`
		}
	}
	if err := d.get(ctx, d.p.API+"/articles/"+url.PathEscape(id)+"/versions/"+url.PathEscape(version), &article); err != nil {
		return nil, err
	}
	var items []item
	for _, f := range article.Files {
		if f.LinkOnly {
			d.say("Leaving out " + bindery.Printable(f.Name) + ": it is a link")
			continue
		}
		sum := f.ComputedMD5
		if sum == "" {
			sum = f.SuppliedMD5
		}
		it := item{path: f.Name, url: f.DownloadURL, size: sizeOr(f.Size), sum: prefixed("md5", sum)}
		if strings.HasSuffix(f.Name, ".zip") {
			it.kind = zipAlone
		}
		items = append(items, it)
	}
	return items, nil
}

func prefixed(kind, sum string) string {
	if sum == "" {
		return ""
	}
	return kind + ":" + strings.ToLower(sum)
}

type hydroshare struct{}

func (hydroshare) resolve(ctx context.Context, d *deposit, src bindery.Source) (bindery.Source, error) {
	id := path.Base(src.URL)
	var meta struct {
		Dates []struct {
			Type  string
			Start string `json:"start_date"`
		}
	}
	if err := d.get(ctx, d.p.API+"/resource/"+id+"/scimeta/elements", &meta); err != nil {
		return src, err
	}
	i := slices.IndexFunc(meta.Dates, func(d struct {
		Type  string
		Start string `json:"start_date"`
	}) bool {
		return d.Type == "modified"
	})
	if i < 0 {
		return src, unreachable("HydroShare does not say when the resource was changed")
	}
	epoch, err := epochOf(meta.Dates[i].Start)
	src.Commit = id + ".v" + epoch
	return src, err
}

// epochOf reads a time without a zone, or one in UTC, as the seconds since 1970.
func epochOf(text string) (string, error) {
	text, _, _ = strings.Cut(strings.TrimSuffix(text, "Z"), ".")
	at, err := time.Parse("2006-01-02T15:04:05", text)
	if err != nil {
		return "", unreachable("The archive gives a time that cannot be read").Because(err)
	}
	return strconv.FormatInt(at.Unix(), 10), nil
}

func (hydroshare) list(ctx context.Context, d *deposit, src bindery.Source) ([]item, error) {
	id := path.Base(src.URL)
	bag := d.p.URL + "/django_s3/download/bags/" + id + ".zip"
	// A bag is packed when it is asked for. Until it is there the address leads to itself, or to a page about the wait.
	deadline := time.Now().Add(12 * d.s.cfg.Poll)
	for {
		r, err := d.peek(ctx, bag)
		if err != nil {
			return nil, err
		}
		isBag := strings.Contains(r.at.Path, "/bags/"+id+".zip") && !strings.Contains(r.at.Path, "/django_s3/")
		switch {
		case r.status == http.StatusOK && (isBag || strings.Contains(r.header.Get("Content-Type"), "zip")):
			return []item{{path: id + ".zip", url: r.at.String(), size: -1, kind: bagged}}, nil
		case r.status != http.StatusOK:
			return nil, r.refused("this resource")
		}
		if time.Now().After(deadline) {
			return nil, bindery.Errorf(bindery.ErrTimeout, bindery.Transient, "Try again in some minutes.", "HydroShare takes too long to prepare the resource")
		}
		d.say("HydroShare prepares the resource")
		if err := d.pause(ctx); err != nil {
			return nil, err
		}
	}
}

// peek asks for something and reads no more than the beginning of the answer. It is no HEAD, which starts nothing.
func (d *deposit) peek(ctx context.Context, raw string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := d.s.guard.start(ctx, ask{url: raw})
	if err != nil {
		return reply{}, err
	}
	_ = resp.Body.Close() // it is asked for again
	return reply{status: resp.StatusCode, header: resp.Header, at: resp.Request.URL}, nil
}

// pause waits before an archive is looked at again.
func (d *deposit) pause(ctx context.Context) error {
	wait := time.NewTimer(d.s.cfg.Poll)
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

var errNoFiles = errors.New("no files")
