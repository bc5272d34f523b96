package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"strconv"

	bindery "github.com/bindery-hub/bindery"
)

// EnvKey names the environment that p describes: equal keys mean equal environments, built by the same generation.
// It covers the files that installers read by their content, and those that Detect has read by what it took from them:
// a new comment in apt.txt changes nothing. With a Dockerfile it covers the Dockerfile; the files that it copies are
// for the caller to add.
func (p Plan) EnvKey(generation string, fsys fs.FS) (string, error) {
	env := struct {
		Base, Python, Docker string
		Apt                  []string
		Env                  []Install
		Docked               bool
		Path                 []string          `json:",omitempty"`
		Variables            map[string]string `json:",omitempty"`
		AptExtra             []string          `json:",omitempty"`
		Patches              string            `json:",omitempty"`
	}{p.Base, p.Python, p.Docker, p.Apt, p.Env, p.Pack == PackDockerfile, p.Path, p.Variables, p.AptExtra, p.Patches}
	data, err := json.Marshal(env)
	if err != nil {
		return "", err // nothing in it can fail to marshal
	}
	parts := []string{generation, string(data)}
	var files []string
	for _, i := range p.Env {
		files = append(append(files, i.Files...), i.Includes...)
	}
	if p.Docker != "" {
		files = append(files, p.Docker)
	}
	d := &detector{fsys: fsys}
	for _, name := range files {
		content, err := d.read(name)
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256(content)
		// Quoted, since a name may be any bytes and a key is made of text.
		parts = append(parts, strconv.QuoteToASCII(name), hex.EncodeToString(sum[:]))
	}
	return bindery.Key("env", parts...), nil
}

// ImageKey names the image that p makes of an environment and of content, which is a key of the repository's files.
// Labels and whatever else ends in the image's configuration come as further parts.
func (p Plan) ImageKey(envKey, content string, more ...string) (string, error) {
	data, err := json.Marshal(struct {
		Content                     []Install
		ConfigDir, PostBuild, Start string
		Ignore, Command             []string
	}{p.Content, p.ConfigDir, p.PostBuild, p.Start, p.Ignore, p.Command})
	if err != nil {
		return "", err // nothing in it can fail to marshal
	}
	return bindery.Key("image", append([]string{envKey, content, string(data)}, more...)...), nil
}
