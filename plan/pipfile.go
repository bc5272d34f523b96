package plan

// pipfile is the pack of Pipenv environments. requirements.txt and setup.py have no say there.
func (d *detector) pipfile() (bool, error) {
	if d.runtime.name != "" && d.runtime.name != "python" {
		return false, nil
	}
	file, err := d.first("Pipfile", "Pipfile.lock")
	if err != nil || file == "" {
		return false, err
	}
	return d.unsupported(PackPipfile, file, "a Pipenv environment", pythonInstead)
}
