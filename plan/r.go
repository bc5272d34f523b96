package plan

// r is the pack of R repositories. It reads runtime.txt, which the packs after it need too.
func (d *detector) r() (bool, error) {
	if err := d.readRuntime(); err != nil {
		return false, err
	}
	if d.runtime.name == "r" && d.runtime.date != "" {
		return d.unsupported(PackR, d.runtime.file, "an R environment", "Write a Dockerfile that installs R, or name a Python version in runtime.txt.")
	}
	if d.binder {
		return false, nil
	}
	found, err := d.exists("DESCRIPTION")
	if err != nil || !found {
		return false, err
	}
	return d.unsupported(PackR, "DESCRIPTION", "an R package", "Write a Dockerfile that installs R, or make a binder directory with the files that are to count.")
}
