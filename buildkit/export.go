package buildkit

import (
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"

	bindery "github.com/bindery-hub/bindery"
)

// registryCache is BuildKit's name for a cache of steps that a registry holds.
const registryCache = "registry"

// exports are the places that the result goes to: always the one that sessions start from, then those that job names.
func (s *solve) exports(img string) ([]client.ExportEntry, error) {
	all := []client.ExportEntry{{Type: launchable, Attrs: map[string]string{imageAttr: img}}}
	compression, err := s.compression()
	if err != nil {
		return nil, err
	}
	if len(s.job.Push) > 0 {
		if err := checkNames(s.job.Push); err != nil {
			return nil, err
		}
		all = append(all, client.ExportEntry{Type: client.ExporterImage, Attrs: attrs(compression, "name", strings.Join(s.job.Push, ","), "push", "true", "store", "false", saysAttr, s.id)})
	}
	if s.job.OCI != "" {
		all = append(all, client.ExportEntry{Type: client.ExporterOCI, OutputDir: s.job.OCI, Attrs: attrs(compression, "tar", "false", saysAttr, s.id)})
	}
	return all, nil
}

// attrs are those of an exporter of images: layers are written anew in the compression that is asked for, whatever the
// base came in, so that equal builds make equal images wherever they run.
func attrs(compression string, more ...string) map[string]string {
	a := map[string]string{"compression": compression, "force-compression": "true", "oci-mediatypes": "true", "source-date-epoch": epochText()}
	for i := 0; i < len(more); i += 2 {
		a[more[i]] = more[i+1]
	}
	return a
}

func (s *solve) compression() (string, error) {
	known := bindery.Compressions()
	asked := s.job.Export.Compression
	if asked == "" {
		return known[0], nil
	}
	if !slices.Contains(known, asked) {
		return "", bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use one of "+strings.Join(known, ", ")+".", "%q is not a way to compress layers", bindery.Printable(asked))
	}
	if asked == "none" {
		return "uncompressed", nil
	}
	return asked, nil
}

// caches are the images that finished steps are taken from and left in. All steps are left, not the last ones only: it
// is the environment that another machine wants, not this commit's content.
func (s *solve) caches() (from, to []client.CacheOptionsEntry, err error) {
	x := s.job.Export
	names := slices.Clone(x.CacheFrom)
	if x.CacheTo != "" {
		names = append(names, x.CacheTo)
	}
	if err := checkNames(names); err != nil {
		return nil, nil, err
	}
	for _, ref := range x.CacheFrom {
		from = append(from, client.CacheOptionsEntry{Type: registryCache, Attrs: map[string]string{"ref": ref}})
	}
	if x.CacheTo != "" {
		to = []client.CacheOptionsEntry{{Type: registryCache, Attrs: map[string]string{
			"ref": x.CacheTo, "mode": "max", "oci-mediatypes": "true", "image-manifest": "true", "compression": "zstd",
		}}}
	}
	return from, to, nil
}

func checkNames(refs []string) error {
	for _, ref := range refs {
		if _, err := reference.ParseNormalizedNamed(ref); err != nil {
			return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a name like registry.example/owner/image:tag.", "%q is not an image name", bindery.Printable(ref)).Because(err)
		}
	}
	return nil
}
