package plan

// node plans the packages of a package.json.
func (d *detector) node() error { return nil }
