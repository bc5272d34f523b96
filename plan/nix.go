package plan

import (
	"regexp"
	"strings"
)

// nixBase is the release of Debian whose Nix reads what the channel has today.
const nixBase = "debian:trixie"

// nixLocalRE finds paths in a Nix expression: ./x, ../x, and ~/x, as opposed to <nixpkgs> and URLs.
var nixLocalRE = regexp.MustCompile(`(?:^|[\s(\[{=:,;])(?:\.{1,2}|~)/|(?:^|[\s(\[=])\./?\s*[;)\]]`)

// nix is the pack of Nix expressions. Everything runs inside of the environment that they describe, which has to bring
// its own Jupyter server, as with repo2docker.
func (d *detector) nix() (bool, error) {
	file, err := d.first("default.nix")
	if err != nil || file == "" {
		return false, err
	}
	d.plan.Pack = PackNix
	text, err := d.readText(file)
	if err != nil {
		return true, err
	}
	if strings.HasPrefix(d.plan.Base, "debian:") {
		d.plan.Base = nixBase
		own, _ := debian(d.plan.Base)
		d.plan.Python = own.python
	}
	d.use(file)
	d.plan.Apt = append(d.plan.Apt, "nix-bin")
	d.plan.Path = append(d.plan.Path, "/home/jovyan/.nix-profile/bin")
	d.variable("NIX_PATH", "nixpkgs=/home/jovyan/.nix-defexpr/channels/nixpkgs")
	d.variable("NIX_SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
	d.variable("GIT_SSL_CAINFO", "/etc/ssl/certs/ca-certificates.crt")
	d.plan.Env = append(d.plan.Env, Install{Tool: ToolNix, Files: []string{}, Prefix: "/nix"})
	shell := Install{Tool: ToolNix, Files: []string{file}, Prefix: "/nix"}
	if nixLocalRE.MatchString(nixComments.ReplaceAllString(text, "")) {
		d.plan.Content = append(d.plan.Content, shell)
		d.why(file, "a Nix environment, made once the repository is in place because it names files of it; everything runs inside of it")
		return true, nil
	}
	d.plan.Env = append(d.plan.Env, shell)
	d.reads(file)
	d.why(file, "a Nix environment; everything runs inside of it")
	return true, nil
}

var nixComments = regexp.MustCompile(`(?m)#.*$|(?s:/\*.*?\*/)`)
