package plan

import (
	"path"
	"strings"
)

// node plans the packages of a package.json, which repo2docker leaves alone: where a lock file of npm's is beside it, so
// that what is installed is known. They go where the repository's files will be, as npm has it.
func (d *detector) node() error {
	file, err := d.first("package.json")
	if err != nil || file == "" {
		return err
	}
	if d.plan.Pack == PackNix {
		d.leave(file, "a Nix environment brings its own Node")
		return nil
	}
	locked, err := d.first("npm-shrinkwrap.json", "package-lock.json")
	if err != nil {
		return err
	}
	if locked == "" {
		d.leave(file, "Node packages are installed where a package-lock.json says which")
		return nil
	}
	scripts, err := d.nodeScripts(file)
	if err != nil {
		return err
	}
	content, err := d.readText(locked)
	if err != nil {
		return err
	}
	l, err := parseNodeLock(content)
	if err != nil {
		return userError("Make it anew with npm install.", "%s: %s", locked, err)
	}
	in := Install{Tool: ToolNPM, Files: []string{locked}, Includes: []string{file}, Prefix: path.Join("/home/jovyan", path.Dir(file), "node_modules")}
	if l.scripts {
		in.Args = []string{NPMRebuild}
	}
	if l.local {
		in.Prefix, in.Args = "", []string{NPMRebuild}
		if scripts {
			in.Args = append(in.Args, NPMPrepare)
		}
		d.plan.Content = append(d.plan.Content, in)
		d.use(locked)
		d.use(file)
		d.why(locked, "Node packages, installed once the repository is in place, because some of them are in it")
		return nil
	}
	return d.nodeFirst(in, file, locked, scripts)
}

// nodeFirst plans packages that need nothing of the repository but what says which they are, and npm's settings.
func (d *detector) nodeFirst(in Install, file, locked string, scripts bool) error {
	settings, err := d.first(".npmrc")
	if err != nil {
		return err
	}
	if settings != "" {
		in.Includes = append(in.Includes, settings)
		d.reads(settings)
	}
	d.plan.Env = append(d.plan.Env, in)
	d.reads(locked)
	d.reads(file)
	d.why(locked, "Node packages to install, as locked")
	if settings != "" {
		d.why(settings, "npm's settings hold for them")
	}
	if scripts {
		d.plan.Content = append(d.plan.Content, Install{Tool: ToolNPM, Files: []string{}, From: file, Args: []string{NPMPrepare}})
		d.why(file, "its own install scripts run once the repository is in place")
	}
	return nil
}

// Args of an install by ToolNPM. Without any, packages are unpacked and none of their code runs.
const (
	NPMRebuild = "rebuild" // run the packages' install scripts
	NPMPrepare = "prepare" // run the repository's own
)

// leave says why a file has no effect, once.
func (d *detector) leave(file, reason string) {
	d.ignore(file, reason)
	d.use(file)
}

// nodeScripts reports whether a package.json has scripts that npm runs when it has installed.
func (d *detector) nodeScripts(file string) (bool, error) {
	content, err := d.readText(file)
	if err != nil {
		return false, err
	}
	var doc struct {
		Scripts map[string]any `json:"scripts"`
	}
	if err := parseJSON(content, &doc); err != nil {
		return false, userError("Mend the file.", "%s: %s", file, err)
	}
	for _, name := range []string{"preinstall", "install", "postinstall", "prepare"} {
		if _, ok := doc.Scripts[name]; ok {
			return true, nil
		}
	}
	return false, nil
}

// A nodeLock is what matters of a lock file: whether packages bring scripts, and whether any is in the repository.
type nodeLock struct{ scripts, local bool }

func parseNodeLock(content string) (nodeLock, error) {
	type entry struct {
		Version  string `json:"version"` // of lockfileVersion 1: "file:..." for a directory
		Resolved string `json:"resolved"`
		Link     bool   `json:"link"`
		Script   bool   `json:"hasInstallScript"`
	}
	var doc struct {
		LockfileVersion int              `json:"lockfileVersion"`
		Packages        map[string]entry `json:"packages"`
		Dependencies    map[string]entry `json:"dependencies"`
	}
	if err := parseJSON(content, &doc); err != nil {
		return nodeLock{}, err
	}
	l := nodeLock{scripts: doc.LockfileVersion < 2} // version 1 does not say
	for _, entries := range []map[string]entry{doc.Packages, doc.Dependencies} {
		for name, e := range entries {
			if name == "" { // the repository itself
				continue
			}
			l.scripts = l.scripts || e.Script
			l.local = l.local || e.Link || strings.HasPrefix(e.Version, "file:") || strings.HasPrefix(e.Resolved, "file:")
		}
	}
	return l, nil
}
