package plan

const pythonInstead = "List the Python packages in requirements.txt and delete the file, or write a Dockerfile."

// conda is the pack of conda environments. requirements.txt has no say there.
func (d *detector) conda() (bool, error) {
	file, err := d.first("environment.yml", "environment.yaml")
	if err != nil || file == "" {
		return false, err
	}
	return d.unsupported(PackConda, file, "a conda environment", pythonInstead)
}

// condaLayer applies an environment.yml where another pack is the repository's: R's or Julia's.
func (d *detector) condaLayer() error { return nil }
