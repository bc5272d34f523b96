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

	Token         bool   // it came with a build token of a page of ours
	Origin        string // host that was asked
	RequestOrigin string // the page that asked, else what the browser says of it

	Cached  bool          // there was an image already
	Built   time.Duration // until there was an image
	Started time.Duration // from there until the session answered
}
