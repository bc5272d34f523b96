package plan

import "strings"

// legacy refuses the Dockerfiles of the first Binder. It looks at the root only, whatever a binder directory says.
func (d *detector) legacy() error {
	text, err := d.readText("Dockerfile")
	if err != nil {
		return nil // there is none, or, if it counts, the next to read it says what is wrong with it
	}
	for _, line := range lines(text) {
		if !strings.HasPrefix(line, "FROM") {
			continue
		}
		line, _, _ = strings.Cut(line, "#")
		if !strings.Contains(strings.ToLower(line), "andrewosh/binder-base") {
			return nil
		}
		d.plan.Pack, d.plan.Docker, d.plan.Base = PackDockerfile, "Dockerfile", ""
		return userError("Delete the Dockerfile and list the packages in requirements.txt, or start the Dockerfile from another image.",
			"Dockerfile: andrewosh/binder-base is the base of the first Binder, which is gone")
	}
	return nil
}

// dockerfile hands everything to the repository's Dockerfile.
func (d *detector) dockerfile() (bool, error) {
	file, err := d.first("Dockerfile")
	if err != nil || file == "" {
		return false, err
	}
	// Read only to refuse now what the build could not read.
	text, err := d.readText(file)
	d.plan.Pack, d.plan.Docker, d.plan.Base = PackDockerfile, file, ""
	if err != nil {
		return false, err
	}
	if strings.TrimSpace(text) == "" {
		return false, userError("Write its instructions, or delete it.", "%s is empty", file)
	}
	d.reads(file)
	// The Dockerfile's own frontend honours .dockerignore, in the root only.
	d.use(".dockerignore")
	d.why(file, "a Dockerfile decides everything; no other file counts"+dockerUser(text))
	return true, d.ignoredFiles("the Dockerfile decides everything")
}
