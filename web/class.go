package web

import (
	_ "embed"
	"net/http"
	"regexp"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

//go:embed agents.txt
var agentsText string

// agents are the User-Agents that say what asks.
type agents struct {
	bots, clients []string
	persons       []*regexp.Regexp
}

// parseAgents reads the format of agents.txt. Lines that are of no kind are left out, so that a newer list does not
// stop an older hub.
func parseAgents(text string) agents {
	var a agents
	for line := range strings.Lines(text) {
		kind, pattern, ok := strings.Cut(strings.TrimSpace(line), " ")
		pattern = strings.ToLower(strings.TrimSpace(pattern))
		switch {
		case !ok || pattern == "":
		case kind == "bot":
			a.bots = append(a.bots, pattern)
		case kind == "client":
			a.clients = append(a.clients, pattern)
		case kind == "person":
			a.persons = append(a.persons, regexp.MustCompile(`(^|[^a-z0-9])`+regexp.QuoteMeta(pattern)))
		}
	}
	return a
}

func contains(patterns []string, agent string) (string, bool) {
	for _, p := range patterns {
		if strings.Contains(agent, p) {
			return p, true
		}
	}
	return "", false
}

// classOf says whether a person waits for what a request asks for, and what that was seen from. It is judged by
// evidence: a wrong guess costs somebody a place in the queue, and nothing else.
func (a agents) classOf(r *http.Request, tokenOfOurs bool) (class bindery.Class, evidence string) {
	agent := strings.ToLower(r.UserAgent())
	rest := agent
	for _, p := range a.persons {
		rest = p.ReplaceAllString(rest, "$1")
	}
	if p, ok := contains(a.bots, rest); ok {
		return bindery.Unattended, "a bot by its own account (" + p + ")"
	}
	if tokenOfOurs {
		return bindery.Attended, "a build token of this hub's page"
	}
	// Scripts in pages cannot set these headers, and programs do not send them.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && r.Header.Get("Sec-Fetch-Mode") != "" {
		return bindery.Attended, "a browser's fetch metadata"
	}
	if p, ok := contains(a.clients, agent); ok {
		return bindery.Attended, "a known client (" + p + ")"
	}
	return bindery.Unattended, "nothing that speaks of a person"
}

// isPrefetch reports whether a browser says that nobody has asked for this yet.
func isPrefetch(r *http.Request) bool {
	purpose := r.Header.Get("Sec-Purpose") + r.Header.Get("Purpose") + r.Header.Get("X-Purpose") + r.Header.Get("X-Moz")
	return strings.Contains(strings.ToLower(purpose), "prefetch") || strings.EqualFold(purpose, "preview")
}
