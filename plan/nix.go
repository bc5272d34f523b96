package plan

// nix is the pack of Nix expressions. There is no Python environment in it.
func (d *detector) nix() (bool, error) {
	file, err := d.first("default.nix")
	if err != nil || file == "" {
		return false, err
	}
	return d.unsupported(PackNix, file, "a Nix environment", "Write a Dockerfile that installs what default.nix names, or move the file out of the way.")
}
