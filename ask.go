package bindery

import "time"

// An Ask is one request for a build, or for a session of one: what is wanted, by whom, and how urgently.
type Ask struct {
	Source    Source `json:"source"`
	Requester string `json:"requester"`          // a user, a token's name, else an address block (/24, /48)
	Class     Class  `json:"class"`              // default: Attended
	Evidence  string `json:"evidence,omitempty"` // what the class was judged by, in words
	Retry     bool   `json:"retry,omitempty"`    // do not answer with a stored failure: try again

	// Request names one visitor's launch. Launching twice with the same one gives the same session while it lives,
	// so that a visitor whose connection broke does not get two. Empty: every launch is a new session.
	Request string `json:"request,omitempty"`

	// RepoQuota is how many sessions of the repository there may be at once. 0: as the queue is configured. An
	// operator's own quota for the repository wins over it.
	RepoQuota int `json:"repo_quota,omitempty"`

	// Launches says that a session is to follow the build. One that there would be no place for is refused before
	// anything is built for it.
	Launches bool `json:"launches,omitempty"`

	// Address is where the request came from, for rules about networks; it is kept nowhere.
	Address string `json:"-"`

	// Env is what programs in the session are told of the link that it was launched by, as K=V: BinderHub's BINDER_
	// variables.
	Env []string `json:"-"`
}

// A Standing says where a build or a session stands that has not started, and how far a build is that runs.
type Standing struct {
	Position int    `json:"position"` // 1 is next; 0 once it runs or has ended
	Reason   string `json:"reason"`   // why it waits, in words

	// When it starts: in nine cases of ten between From and To. Zero when nothing can be said: nothing builds, or a
	// person holds it back, or a thousand builds are ahead.
	From   time.Time `json:"from,omitzero"`
	Likely time.Time `json:"likely,omitzero"`
	To     time.Time `json:"to,omitzero"`

	Run Run `json:"run,omitzero"` // of a build that runs; all else is zero then
}

// A Run says how long a build has run, and when it will probably be done. Where nothing is known of its repository only
// Most and To are told, going by all builds; where nothing can be said at all, only Since.
type Run struct {
	Since time.Time     `json:"since"`
	Least time.Duration `json:"least,omitzero"` // such builds take between Least and Most, in nine cases of ten
	Most  time.Duration `json:"most,omitzero"`

	// When this one is done, since it has run for as long as it has: in nine cases of ten between From and To.
	From   time.Time `json:"from,omitzero"`
	Likely time.Time `json:"likely,omitzero"`
	To     time.Time `json:"to,omitzero"`
}

// Late reports whether it takes longer than such builds do.
func (r Run) Late(now time.Time) bool { return r.Most > 0 && now.Sub(r.Since) > r.Most }

// Plannable reports whether the beginning of the interval is worth a person's while: a minute ahead or later, and with the
// end at most four times as far away. Of others only the end is told in words: "within 20 minutes".
func (s Standing) Plannable(now time.Time) bool {
	from := s.From.Sub(now)
	return from >= time.Minute && s.To.Sub(now) <= 4*from
}
