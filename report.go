package bindery

import "time"

// How a request for a launch ended, as a LaunchReport says it.
const (
	LaunchSucceeded = "success"
	LaunchFailed    = "failure"
	LaunchRepoFull  = "repo_quota" // the repository had all the sessions that it may have
	LaunchHubFull   = "pod_quota"  // the hub had
	LaunchLeft      = "left"       // whoever asked did not stay for the end
)

// A LaunchReport says how one request for a launch went, for metrics and for the archive. It names nobody who asked.
type LaunchReport struct {
	Time     time.Time // when it ended
	Status   string
	Provider Provider
	Spec     string // as asked, without the provider
	Source   Source // with the commit, once that was known
	Repo     string // the repository as a URL or a DOI
	Build    string
	Session  string
	Class    Class
	Evidence string
	Err      *Error

	Began      time.Time
	Request    string // its id in the log
	Parent     string // the trace that it belongs to, as the header traceparent says it; whoever asks chooses that
	Generation string // that made the image

	Token         bool   // it came with a build token of a page of ours
	Origin        string // host that was asked
	RequestOrigin string // the page that asked, else what the browser says of it

	Cached   bool          // there was an image already
	Resolved time.Duration // until the commit was known; 0: it never was
	Built    time.Duration // until there was an image
	Started  time.Duration // from there until the session answered
}

// Load is what of a hub only its event streams know.
type Load struct {
	Streams, Launching int   // open now; of these, those that wait for their session
	Opened, Resumed    int64 // so far; of these, those that went on where another one had broken off
}

// A CanaryReport says how one build and launch of the hub's own went.
type CanaryReport struct {
	Time    time.Time // when it ended
	Build   string
	Session string
	Took    map[string]time.Duration // by phase; those that it did not come to are not there
	Failed  string                   // the phase in which it failed
	Err     *Error
}

// CanaryRequester asks for the canary's builds and launches. They are nobody's visits.
const CanaryRequester = "canary"

// The phases of a canary, in order.
const (
	CanaryHealth = "health" // the hub's /health says that all is well
	CanaryQueue  = "queue"  // until its build started
	CanaryBuild  = "build"
	CanaryLaunch = "launch" // until the session answered
	CanaryVisit  = "visit"  // a request as a visitor makes it, through the proxy
	CanaryStop   = "stop"
)

// CanaryPhases lists them.
func CanaryPhases() []string {
	return []string{CanaryHealth, CanaryQueue, CanaryBuild, CanaryLaunch, CanaryVisit, CanaryStop}
}
