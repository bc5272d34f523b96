package source

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// dataverse is any installation of Dataverse: a DOI leads to one.
type dataverse struct{}

type dataverseSet struct {
	Status string
	Data   struct {
		ID            int64
		LatestVersion struct {
			Major int `json:"versionNumber"`
			Minor int `json:"versionMinorNumber"`
			Files []struct {
				Label     string
				Directory string `json:"directoryLabel"`
				DataFile  struct {
					ID           int64
					Filename     string
					OriginalName string `json:"originalFileName"`
					MD5          string
					Checksum     struct{ Type, Value string }
					Size         *int64 `json:"filesize"`
					OriginalSize *int64 `json:"originalFileSize"`
				} `json:"dataFile"`
			}
		}
	}
}

func (dataverse) resolve(ctx context.Context, d *deposit, src bindery.Source) (bindery.Source, error) {
	at, err := d.follow(ctx, src.Ref)
	if err != nil {
		return src, err
	}
	if d.p.URL != "" {
		if err := d.home(at); err != nil {
			return src, err
		}
	}
	id := at.Query().Get("persistentId")
	if id == "" {
		return src, bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "Use the DOI of a dataset, not of a file.",
			"The DOI %s leads to %s, which is not the page of a Dataverse dataset", src.Ref, bindery.Printable(at.Host))
	}
	page := url.URL{Scheme: at.Scheme, Host: at.Host, Path: "/dataset.xhtml", RawQuery: url.Values{"persistentId": {id}}.Encode()}
	src.URL = page.String()
	set, err := d.dataset(ctx, src)
	if err != nil {
		return src, err
	}
	v := set.Data.LatestVersion
	if set.Data.ID <= 0 || v.Major <= 0 {
		return src, bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "Publish the dataset.", "The dataset %s has no published version", src.Ref)
	}
	src.Commit = strconv.FormatInt(set.Data.ID, 10) + ".v" + strconv.Itoa(v.Major) + "." + strconv.Itoa(v.Minor)
	return src, nil
}

// dataset asks the installation that has the page src.URL.
func (d *deposit) dataset(ctx context.Context, src bindery.Source) (dataverseSet, error) {
	var set dataverseSet
	at, err := url.Parse(src.URL)
	if err != nil {
		return set, err
	}
	q := url.URL{Scheme: at.Scheme, Host: at.Host, Path: "/api/datasets/:persistentId", RawQuery: at.RawQuery}
	if err := d.get(ctx, q.String(), &set); err != nil {
		return set, err
	}
	if set.Status != "OK" {
		return set, unreachable("Dataverse does not describe the dataset")
	}
	return set, nil
}

func (dataverse) list(ctx context.Context, d *deposit, src bindery.Source) ([]item, error) {
	set, err := d.dataset(ctx, src)
	if err != nil {
		return nil, err
	}
	at, err := url.Parse(src.URL)
	if err != nil {
		return nil, err
	}
	var items []item
	for _, f := range set.Data.LatestVersion.Files {
		name, size, sum := f.Label, sizeOr(f.DataFile.Size), prefixed("md5", f.DataFile.MD5)
		if f.DataFile.Filename != "" && name == "" {
			name = f.DataFile.Filename
		}
		// A table that Dataverse has rewritten is wanted as it was given; the sum is that of the file as it was given.
		if f.DataFile.OriginalName != "" {
			name, size = f.DataFile.OriginalName, sizeOr(f.DataFile.OriginalSize)
		}
		if kind := strings.ToLower(strings.ReplaceAll(f.DataFile.Checksum.Type, "-", "")); sum == "" && kind != "" {
			sum = prefixed(kind, f.DataFile.Checksum.Value)
		}
		link := url.URL{Scheme: at.Scheme, Host: at.Host, Path: "/api/access/datafile/" + strconv.FormatInt(f.DataFile.ID, 10), RawQuery: "format=original"}
		items = append(items, item{path: path.Join(f.Directory, name), url: link.String(), size: size, sum: sum})
	}
	return items, nil
}

// ckan is any CKAN portal: the link is the address of a dataset's page.
type ckan struct{}

type ckanPackage struct {
	Name     string
	Modified string `json:"metadata_modified"`
	Package  *ckanPackage
	Activity *struct {
		Data struct{ Package *ckanPackage }
	}
	Resources []struct{ URL, Hash string }
}

// show asks the portal about the dataset, at the activity that the address names if it does.
func (ckan) show(ctx context.Context, d *deposit, raw string) (ckanPackage, string, error) {
	var answer struct {
		Success bool
		Result  ckanPackage
	}
	at, err := url.Parse(raw)
	if err != nil {
		return ckanPackage{}, "", err
	}
	prefix, rest, _ := strings.Cut(at.Path, "/dataset/")
	id, more, _ := strings.Cut(rest, "/")
	activity := at.Query().Get("activity_id")
	if a, ok := strings.CutPrefix(more, "history/"); ok {
		activity = strings.TrimSuffix(a, "/")
	}
	q := url.URL{Scheme: at.Scheme, Host: at.Host, Path: prefix + "/api/3/action/package_show", RawQuery: url.Values{"id": {id}}.Encode()}
	if activity != "" {
		q.Path, q.RawQuery = prefix+"/api/3/action/activity_data_show", url.Values{"id": {activity}, "object_type": {"package"}}.Encode()
	}
	r, err := d.ask(ctx, q.String())
	if err != nil {
		return ckanPackage{}, "", err
	}
	if r.status/100 == 4 && r.status != http.StatusTooManyRequests {
		return ckanPackage{}, "", bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "Check the address; the dataset must be public.", "There is no CKAN dataset %s", bindery.Printable(raw))
	}
	if r.status != http.StatusOK {
		return ckanPackage{}, "", r.refused("this dataset")
	}
	if err := r.read(&answer); err != nil {
		return ckanPackage{}, "", err
	}
	got := answer.Result
	if got.Package != nil {
		got = *got.Package
	}
	return got, id, nil
}

func (c ckan) resolve(ctx context.Context, d *deposit, src bindery.Source) (bindery.Source, error) {
	got, id, err := c.show(ctx, d, src.URL)
	if err != nil {
		return src, err
	}
	epoch, err := epochOf(got.Modified)
	src.Commit = id + ".v" + epoch
	return src, err
}

func (c ckan) list(ctx context.Context, d *deposit, src bindery.Source) ([]item, error) {
	got, _, err := c.show(ctx, d, src.URL)
	if err != nil {
		return nil, err
	}
	var items []item
	for _, r := range got.Resources {
		u, err := url.Parse(r.URL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
			d.say("Leaving out " + bindery.Printable(r.URL) + ": it is no http or https address")
			continue
		}
		// Portals fill in whatever they like as hash; only what looks like one is compared.
		sum := ""
		switch h := strings.TrimPrefix(strings.ToLower(r.Hash), "md5:"); len(h) {
		case 32:
			sum = "md5:" + h
		case 64:
			sum = "sha256:" + h
		}
		items = append(items, item{path: path.Base(u.Path), url: r.URL, size: -1, sum: sum})
	}
	return items, nil
}

// heritage is Software Heritage: the name of a directory or a revision is that of its content.
type heritage struct{}

func (heritage) resolve(ctx context.Context, d *deposit, src bindery.Source) (bindery.Source, error) {
	id := path.Base(src.URL)
	hash, isRev := strings.CutPrefix(id, "swh:1:rev:")
	if !isRev {
		src.Commit = id
		return src, nil
	}
	var rev struct{ Directory string }
	if err := d.get(ctx, d.p.API+"/revision/"+hash+"/", &rev); err != nil {
		return src, err
	}
	src.Commit = "swh:1:dir:" + rev.Directory
	if !bindery.IsCommit(rev.Directory) {
		return src, unreachable("Software Heritage names a directory that makes no sense")
	}
	return src, nil
}

func (heritage) list(ctx context.Context, d *deposit, src bindery.Source) ([]item, error) {
	hash := strings.TrimPrefix(src.Commit, "swh:1:dir:")
	var cooking struct {
		Status   string
		FetchURL string `json:"fetch_url"`
	}
	at := d.p.API + "/vault/directory/" + hash + "/"
	header, err := d.header(at)
	if err != nil {
		return nil, err
	}
	method, deadline := http.MethodPost, time.Now().Add(d.s.cfg.FetchTimeout/2)
	for {
		r, err := d.s.guard.ask(ctx, ask{method: method, url: at, header: header})
		if err != nil {
			return nil, err
		}
		if r.status != http.StatusOK {
			return nil, r.refused("this directory")
		}
		if err := r.read(&cooking); err != nil {
			return nil, err
		}
		switch cooking.Status {
		case "done":
			link, err := r.at.Parse(cooking.FetchURL)
			if err != nil || cooking.FetchURL == "" {
				return nil, unreachable("Software Heritage does not say where the files are")
			}
			return []item{{path: hash + ".tar.gz", url: link.String(), size: -1, sum: "git:" + hash, kind: tarred}}, nil
		case "failed":
			return nil, unreachable("Software Heritage could not prepare the directory")
		}
		if time.Now().After(deadline) {
			return nil, bindery.Errorf(bindery.ErrTimeout, bindery.Transient, "Try again later.", "Software Heritage takes too long to prepare the directory")
		}
		d.say("Software Heritage prepares the directory")
		if err := d.pause(ctx); err != nil {
			return nil, err
		}
		method = http.MethodGet
	}
}
