package plan

// julia is the pack of Julia projects.
func (d *detector) julia() (bool, error) {
	file, err := d.first("JuliaProject.toml", "Project.toml")
	if err != nil || file != "" {
		if err != nil {
			return false, err
		}
		return d.unsupported(PackJulia, file, "a Julia environment", "Write a Dockerfile that installs Julia, or move the file out of the way.")
	}
	file, err = d.first("REQUIRE")
	if err != nil || file == "" {
		return false, err
	}
	d.plan.Pack = PackJulia
	return true, userError("Write a Project.toml in its place.", "%s: Julia's REQUIRE files are no longer supported, their infrastructure is gone", file)
}
