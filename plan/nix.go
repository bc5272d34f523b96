package plan

import (
	"regexp"
	"strings"
)

// nixBase is the release of Debian whose Nix reads what the channel has today.
const nixBase = "debian:trixie"

// nixLocalRE finds ./x, ../x, and ~/x anywhere in a Nix expression. Those in strings are a script's, as a rule, that runs
// when the environment is made.
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
	if nixLocalRE.MatchString(withoutNixComments(text)) || nixPath(text) {
		d.plan.Content = append(d.plan.Content, shell)
		d.why(file, "a Nix environment, made once the repository is in place because it names files of it; everything runs inside of it")
		return true, nil
	}
	d.plan.Env = append(d.plan.Env, shell)
	d.reads(file)
	d.why(file, "a Nix environment; everything runs inside of it")
	return true, nil
}

// Tokens of a Nix expression (a word is a group), of a string's text, and of one in two quotes.
var (
	nixCode     = regexp.MustCompile(`^(?s:#[^\n]*|/\*(?:[^*]|\*+[^*/])*(?:\*+/)?|<[\w.+/-]+>|''|\$\{|([\w.+~:/'-]+)|\s+|.)`)
	nixString   = regexp.MustCompile(`^(?s:\\.|\$\$|\$\{|[^"\\$]+|.)`)
	nixIndented = regexp.MustCompile(`^(?s:'''|''\$|''\\.|''|\$\$|\$\{|[^'$]+|.)`)
)

// nixPath reports whether a Nix expression has a path in it: a word with a slash, as opposed to <nixpkgs/x> and URLs. The
// text of strings has none, but in ${} it is an expression again. What is taken for a path and is none costs an
// environment made anew, what is overlooked will be missing: so an expression that is too much to read has one.
func nixPath(text string) bool {
	const most, deepest = 1 << 20, 1000
	if len(text) > most {
		return true
	}
	around := []string{"}"} // what ends the strings and braces that this place is in
	for text != "" && len(around) < deepest {
		in, tokens := around[len(around)-1], nixCode
		switch in {
		case `"`:
			tokens = nixString
		case "''":
			tokens = nixIndented
		}
		m := tokens.FindStringSubmatch(text)
		token := m[0]
		text = text[len(token):]
		switch {
		case token == in:
			around = around[:max(1, len(around)-1)]
		case token == "${", in == "}" && token == "{":
			around = append(around, "}")
		case in != "}":
		case token == `"`, token == "''":
			around = append(around, token)
		case strings.Contains(m[1], "/") && !strings.Contains(m[1], "://") && strings.Trim(m[1], "/") != "":
			return true
		}
	}
	return text != ""
}

// withoutNixComments takes out what follows a #, and what is between /* and */.
func withoutNixComments(text string) string {
	var out strings.Builder
	last := strings.LastIndex(text, "*/")
	for at := 0; at < len(text); {
		size := 0
		switch {
		case text[at] == '#':
			if size = strings.IndexByte(text[at:], '\n'); size < 0 {
				size = len(text) - at
			}
		case at+2 <= last && strings.HasPrefix(text[at:], "/*"):
			size = strings.Index(text[at+2:], "*/") + len("/**/")
		default:
			out.WriteByte(text[at])
			size = 1
		}
		at += size
	}
	return out.String()
}
