package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const juliaHome = "/srv/julia"

// juliaReleases are the newest of each series, oldest first: the planner asks no server, so that equal files make equal
// plans. A version that is named to the patch needs not be among them.
func juliaReleases() []string {
	return []string{"1.0.5", "1.1.1", "1.2.0", "1.3.1", "1.4.2", "1.5.4", "1.6.7", "1.7.3", "1.8.5", "1.9.4", "1.10.10", "1.11.7", "1.12.1"}
}

// julia is the pack of Julia projects.
func (d *detector) julia() (bool, error) {
	file, err := d.first("JuliaProject.toml", "Project.toml")
	if err != nil {
		return false, err
	}
	if file == "" {
		old, err := d.first("REQUIRE")
		if err != nil || old == "" {
			return false, err
		}
		d.plan.Pack = PackJulia
		return true, userError("Write a Project.toml in its place.", "%s: Julia's REQUIRE files are no longer supported, their infrastructure is gone", old)
	}
	d.plan.Pack = PackJulia
	manifest, err := d.first("JuliaManifest.toml", "Manifest.toml")
	if err != nil {
		return true, err
	}
	project, err := d.juliaProject(file, manifest)
	if err != nil {
		return true, err
	}
	for _, layer := range []func() error{d.condaLayer, d.pythonLayer} {
		if err := layer(); err != nil {
			return true, err
		}
	}
	d.juliaInstalls(file, manifest, project)
	return true, nil
}

// A juliaProject is what a project and its manifest say.
type juliaProject struct {
	version string // to be installed
	of      string // the file that says so
	local   bool   // it is a package itself, or depends on one by its path
}

func (d *detector) juliaProject(file, manifest string) (juliaProject, error) {
	p := juliaProject{of: file}
	text, err := d.readText(file)
	if err != nil {
		return p, err
	}
	compat, isPackage, err := parseJuliaProject(text)
	if err != nil {
		return p, userError("Mend the file, or write it anew with Julia's Pkg.", "%s: %s", file, err)
	}
	p.local = isPackage
	made := ""
	if manifest != "" {
		text, err := d.readText(manifest)
		if err != nil {
			return p, err
		}
		var local bool
		if made, local, err = parseJuliaManifest(text); err != nil {
			return p, userError("Write it anew, with Pkg.resolve().", "%s: %s", manifest, err)
		}
		p.local = p.local || local
	}
	if compat == "" && made != "" { // what the manifest was made with can read it
		p.version, p.of = made, manifest
		return p, nil
	}
	spec, err := parseJulia(compat)
	if err != nil {
		return p, userError(`Write it as Julia's Pkg does: julia = "1.10", or "~1.10", or "1.6, 1.10".`, "%s, line %d: %s", file, lineOf(text, "julia"), err)
	}
	if p.version = spec.newest(); p.version == "" {
		return p, userError("Allow one of "+strings.Join(juliaReleases(), ", ")+".", "%s, line %d: there is no Julia %s", file, lineOf(text, "julia"), printable(compat))
	}
	return p, nil
}

func (d *detector) juliaInstalls(file, manifest string, p juliaProject) {
	d.use(file)
	d.why(p.of, "Julia "+p.version)
	dir := "/home/jovyan"
	if d.plan.ConfigDir != "" {
		dir += "/" + d.plan.ConfigDir
	}
	for k, v := range map[string]string{
		"JULIA_PATH": juliaHome, "JULIA_DEPOT_PATH": juliaHome + "/pkg", "JULIA_VERSION": p.version, "JULIA_PROJECT": dir,
		"JUPYTER": "/srv/conda/envs/notebook/bin/jupyter", "JUPYTER_DATA_DIR": "/srv/conda/envs/notebook/share/jupyter",
	} {
		d.variable(k, v)
	}
	d.plan.Path = append(d.plan.Path, juliaHome+"/bin")
	d.plan.Env = append(d.plan.Env, Install{Tool: ToolJulia, Files: []string{}, Version: p.version, Prefix: juliaHome})
	files := []string{file}
	if manifest != "" {
		files = append(files, manifest)
		d.use(manifest)
	}
	packages := Install{Tool: ToolJulia, Files: files, Prefix: juliaHome}
	if p.local {
		d.plan.Content = append(d.plan.Content, packages)
		d.why(file, "Julia packages, installed once the repository is in place because it is one itself, or names one by its path")
		d.reads(p.of)
		return
	}
	d.plan.Env = append(d.plan.Env, packages)
	for _, f := range files {
		d.reads(f)
	}
	d.why(file, "Julia packages to install")
	if manifest != "" {
		d.why(manifest, "their exact versions")
	}
}

// parseJuliaProject returns the versions of Julia that the text of a Project.toml allows, and whether the project is a
// package itself.
func parseJuliaProject(text string) (compat string, isPackage bool, err error) {
	doc, err := parseTOML(text)
	if err != nil {
		return "", false, err
	}
	name, _ := doc["name"].(string)
	uuid, _ := doc["uuid"].(string)
	table, _ := doc["compat"].(map[string]any)
	switch v := table["julia"].(type) {
	case nil:
	case string:
		compat = v
	default:
		return "", false, lineError(lineOf(text, "julia"), "[compat] julia is not a string")
	}
	_, sources := doc["sources"]
	return compat, name != "" && uuid != "" || sources, nil
}

// parseJuliaManifest returns the version that the manifest was made with, and whether it names packages by their paths.
func parseJuliaManifest(text string) (version string, local bool, err error) {
	doc, err := parseTOML(text)
	if err != nil {
		return "", false, err
	}
	version, _ = doc["julia_version"].(string)
	if version != "" && !juliaExactRE.MatchString(version) {
		return "", false, lineError(lineOf(text, "julia_version"), "julia_version %q is not a release", printable(version))
	}
	return version, manifestPathRE.MatchString(text), nil
}

var (
	juliaExactRE   = regexp.MustCompile(`^\d{1,4}\.\d{1,4}\.\d{1,4}$`)
	manifestPathRE = regexp.MustCompile(`(?m)^\s*path\s*=`)
)

// A juliaSpec is a set of versions: any of several ranges, each from its first up to but not including its end.
type juliaSpec struct {
	ranges [][2][3]int
	exact  string // a version that is asked for to the patch
}

// newest returns the newest release that the spec has.
func (s juliaSpec) newest() string {
	if s.exact != "" {
		return s.exact
	}
	for _, r := range slices.Backward(juliaReleases()) {
		var v [3]int
		if _, err := fmt.Sscanf(r, "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
			continue // not reached
		}
		for _, in := range s.ranges {
			if slices.Compare(v[:], in[0][:]) >= 0 && slices.Compare(v[:], in[1][:]) < 0 {
				return r
			}
		}
	}
	return ""
}

var (
	juliaPartRE  = regexp.MustCompile(`^(\^|~|=|>=|≥|>|<=|≤|<)?\s*v?(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?$`)
	juliaRangeRE = regexp.MustCompile(`^v?([\d.]+)\s+-\s+v?([\d.]+)$`)
)

// parseJulia parses what [compat] says of julia, in Pkg's language: any of those between commas. Nothing said means
// what repo2docker takes it for, any release from 1.6 on.
func parseJulia(text string) (juliaSpec, error) {
	var s juliaSpec
	if strings.TrimSpace(text) == "" {
		text = "1.6"
	}
	parts := strings.Split(text, ",")
	for _, part := range parts {
		part = strings.TrimSpace(part)
		if m := juliaRangeRE.FindStringSubmatch(part); m != nil {
			from, to := juliaPartRE.FindStringSubmatch(m[1]), juliaPartRE.FindStringSubmatch(m[2])
			if from == nil || to == nil {
				return s, grammarError(`"` + printable(part) + `" is not a range of versions`)
			}
			low, _ := juliaVersion(from)
			high, n := juliaVersion(to)
			s.ranges = append(s.ranges, [2][3]int{low, after(high, n)})
			continue
		}
		m := juliaPartRE.FindStringSubmatch(part)
		if m == nil {
			return s, grammarError(`"` + printable(part) + `" is not a version of Julia`)
		}
		v, n := juliaVersion(m)
		if m[1] == "=" { // 1.3 is 1.3.0 here
			s.ranges = append(s.ranges, [2][3]int{v, after(v, 3)})
			if len(parts) == 1 {
				s.exact = fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2])
			}
			continue
		}
		s.ranges = append(s.ranges, juliaRange(m[1], v, n))
	}
	return s, nil
}

// juliaVersion returns a version, and how many of its parts were given.
func juliaVersion(m []string) (v [3]int, given int) {
	for i, part := range m[2:5] {
		if part == "" {
			break
		}
		_, _ = fmt.Sscan(part, &v[i]) // up to four digits
		given++
	}
	return v, given
}

// after is the first version that is past v in its first n parts.
func after(v [3]int, n int) [3]int {
	var out [3]int
	copy(out[:], v[:n])
	out[n-1]++
	return out
}

func juliaRange(operator string, v [3]int, given int) [2][3]int {
	end := [3]int{1 << 20, 0, 0}
	switch operator {
	case ">=", "≥":
		return [2][3]int{v, end}
	case ">":
		return [2][3]int{after(v, 3), end}
	case "<":
		return [2][3]int{{}, v}
	case "<=", "≤":
		return [2][3]int{{}, after(v, 3)}
	case "~":
		return [2][3]int{v, after(v, min(given, 2))}
	}
	// The first part that is not zero may not change.
	n := 1
	for n < given && v[n-1] == 0 {
		n++
	}
	return [2][3]int{v, after(v, n)}
}
