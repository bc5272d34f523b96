package bindery

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// A GenerationState is where a generation of the builder is in its life.
type GenerationState string

const (
	GenerationNew       GenerationState = "new"       // the hub is set to build by it; what older ones made goes on serving
	GenerationCanary    GenerationState = "canary"    // a roll-out builds and starts its first share
	GenerationRolling   GenerationState = "rolling"   // the rest follows
	GenerationPaused    GenerationState = "paused"    // by an operator, or because too much failed
	GenerationCurrent   GenerationState = "current"   // proven: what was never built is built by it
	GenerationOld       GenerationState = "old"       // a newer one is current; it serves what that one has no proven image of
	GenerationWithdrawn GenerationState = "withdrawn" // rolled back: it serves only what no other one can
)

// GenerationStates lists all states. The store's CHECK constraint and the diagram in docs/ARCHITECTURE.md are tested
// against it and GenerationMoves.
func GenerationStates() []GenerationState {
	return []GenerationState{GenerationNew, GenerationCanary, GenerationRolling, GenerationPaused, GenerationCurrent, GenerationOld, GenerationWithdrawn}
}

// GenerationMoves returns the states that s may be left for.
func GenerationMoves(s GenerationState) []GenerationState {
	switch s {
	case GenerationNew:
		return []GenerationState{GenerationCanary, GenerationCurrent, GenerationWithdrawn} // withdrawn: after it has made chosen images
	case GenerationOld, GenerationWithdrawn:
		return []GenerationState{GenerationCanary, GenerationCurrent} // current: there is nothing to roll out, or a rollback
	case GenerationCanary:
		return []GenerationState{GenerationRolling, GenerationPaused, GenerationCurrent, GenerationWithdrawn}
	case GenerationRolling:
		return []GenerationState{GenerationPaused, GenerationCurrent, GenerationWithdrawn}
	case GenerationPaused:
		return []GenerationState{GenerationCanary, GenerationRolling, GenerationWithdrawn}
	case GenerationCurrent:
		return []GenerationState{GenerationOld, GenerationWithdrawn}
	}
	return nil
}

// RollsOut reports whether a generation in state s is being rolled out, or has been halted over it.
func (s GenerationState) RollsOut() bool {
	return s == GenerationCanary || s == GenerationRolling || s == GenerationPaused
}

// A Recipe is everything that makes equal files into equal images. Equal recipes are one generation.
type Recipe struct {
	Rules    string   `json:"rules"`              // version of planner and engine, with the server's pins; a worker has one
	Base     string   `json:"base,omitempty"`     // "debian:SUITE" or an image reference; empty: the planner's own
	Appendix string   `json:"appendix,omitempty"` // lines of a Dockerfile for the end of every image
	Suites   []string `json:"suites,omitempty"`   // of Debian that may take the base's place for their interpreter; nil: all
}

// Generation names the generation that r makes: the rules, and what of the operator's choice is not the default.
func (r Recipe) Generation() string {
	if r.Base == "" && r.Appendix == "" && r.Suites == nil {
		return r.Rules
	}
	suites := "default"
	if r.Suites != nil {
		suites = "only " + strings.Join(r.Suites, " ")
	}
	return r.Rules + "-" + Key("recipe", r.Base, r.Appendix, suites)[:8]
}

// Equal reports whether r and o make equal images of equal files.
func (r Recipe) Equal(o Recipe) bool {
	return r.Rules == o.Rules && r.Base == o.Base && r.Appendix == o.Appendix && slices.Equal(r.Suites, o.Suites) && (r.Suites == nil) == (o.Suites == nil)
}

// A Generation is one version of the builder as the hub knows it.
type Generation struct {
	Name    string          `json:"name"`
	State   GenerationState `json:"state"`
	Place   int64           `json:"place"` // the newest has the highest
	Recipe  Recipe          `json:"recipe"`
	Created time.Time       `json:"created"` // when the hub first heard of it
	Changed time.Time       `json:"changed"` // when its state last changed
	Rollout *Rollout        `json:"rollout,omitempty"`
}

// A Rollout is how a generation takes over from another one: what was asked for, and how far it is.
type Rollout struct {
	From    string         `json:"from"` // the generation that it takes over from
	Options RolloutOptions `json:"options"`
	By      string         `json:"by"`
	Reason  string         `json:"reason,omitempty"`
	Started time.Time      `json:"started"`
	Ended   time.Time      `json:"ended,omitzero"`
	// Judged is since when outcomes count for the failure threshold: the start, or the last resume.
	Judged  time.Time       `json:"judged"`
	OldRate float64         `json:"old_rate"` // how likely a build of the old generation, or then a launch of it, failed lately
	Total   int             `json:"total"`    // images to replace
	Canary  int             `json:"canary"`   // of them that go first
	Skipped int             `json:"skipped"`  // images that stay because nobody has asked for them for long
	Paused  string          `json:"paused,omitempty"`
	Resumes GenerationState `json:"resumes,omitempty"` // while it is paused: what it was before
	// Only are selectors of the images that are built again, of a generation that does not take over: others stay.
	Only []string `json:"only,omitempty"`
}

// Rebuilds reports whether a generation replaces some chosen images and takes over from no other.
func (g Generation) Rebuilds() bool {
	return !g.State.RollsOut() && g.Rollout != nil && len(g.Rollout.Only) > 0 && g.Rollout.Ended.IsZero()
}

// RolloutOptions say how fast and how carefully. Zero values are the defaults.
type RolloutOptions struct {
	Canary    float64       `json:"canary,omitempty"`    // share of the images that go first, at least 3 images. default: 0.05
	Pace      int           `json:"pace,omitempty"`      // builds started in an hour at most. default: no limit but the idle slots
	AtOnce    int           `json:"at_once,omitempty"`   // builds under way or queued at once. default: the slots of all workers
	Threshold float64       `json:"threshold,omitempty"` // by how much the share of failures may pass the old generation's. default: 0.05
	Failures  int           `json:"failures,omitempty"`  // fewer never pause it. default: 2
	Since     time.Duration `json:"since,omitempty"`     // images that nobody launched for so long stay as they are. default: 30 days; negative: none
}

// WithDefaults fills in what is not said.
func (o RolloutOptions) WithDefaults() RolloutOptions {
	if o.Canary == 0 {
		o.Canary = 0.05
	}
	if o.Threshold == 0 {
		o.Threshold = 0.05
	}
	if o.Failures == 0 {
		o.Failures = 2
	}
	if o.Since == 0 {
		o.Since = 30 * 24 * time.Hour
	}
	return o
}

// Check refuses options that cannot be meant.
func (o RolloutOptions) Check() error {
	bad := func(remedy, format string, args ...any) error {
		return Errorf(ErrInvalid, User, remedy, format, args...)
	}
	switch {
	case !(o.Canary >= 0 && o.Canary <= 1):
		return bad("Give a share from 0 to 1, such as 0.05.", "%g is not a share of the images", o.Canary)
	case !(o.Threshold >= 0 && o.Threshold <= 1):
		return bad("Give a share from 0 to 1, such as 0.05.", "%g is not a threshold", o.Threshold)
	case o.Pace < 0 || o.AtOnce < 0 || o.Failures < 0:
		return bad("Give a number that is not negative.", "The pace, the builds at once and the failures are counts")
	}
	return nil
}

// RolloutStatus is a generation and how its roll-out stands.
type RolloutStatus struct {
	Generation
	Serving  bool      `json:"serving"`  // the hub builds by it now
	Proven   int       `json:"proven"`   // replaced: built, and a session of it has answered
	Building int       `json:"building"` // queued or running
	Starting int       `json:"starting"` // built; their first session has not answered yet
	Waiting  int       `json:"waiting"`
	Held     []Held    `json:"held"`            // stay on their old image, with the reason
	Covered  float64   `json:"covered"`         // share of launches that go to replaced images
	Done     time.Time `json:"done,omitzero"`   // when it ends at this rate, if that can be told
	Images   int       `json:"images"`          // that it made and that are there
	Bytes    int64     `json:"bytes,omitempty"` // of their own layers
}

// A Held image could not be replaced: its visitors go on with the old one and are told nothing.
type Held struct {
	Generation string    `json:"generation"` // that failed to replace it
	Key        string    `json:"key"`        // BuildKey of the replacement
	Source     Source    `json:"source"`
	Build      string    `json:"build,omitempty"` // that failed, or whose image did not start
	Stage      string    `json:"stage"`           // "build" or "start"
	Reason     string    `json:"reason"`
	Fault      Fault     `json:"fault"`
	At         time.Time `json:"at"`
}

// An ImageRecord is an image with what retention and roll-outs go by.
type ImageRecord struct {
	Key        string    `json:"key"` // a BuildKey that it answers for
	Build      string    `json:"build"`
	Image      string    `json:"image"`
	Source     Source    `json:"source"`
	Generation string    `json:"generation"`
	Created    time.Time `json:"created"`
	Proven     time.Time `json:"proven,omitzero"`   // when a session of it answered first; zero: none has
	Used       time.Time `json:"used,omitzero"`     // last launch
	Launches   int       `json:"launches"`          // in the window that was asked for
	Rank       int       `json:"rank"`              // by launches; 1 is the most popular
	Size       int64     `json:"size"`              // bytes that go when it is removed; 0: the worker has not said
	Workers    []string  `json:"workers,omitempty"` // that have it; none: those that have it are away, or it is gone
	State      string    `json:"state"`             // "serving", "superseded", "unproven", "withdrawn" or "gone"
	Sessions   int       `json:"sessions"`          // that run on it
	Why        string    `json:"why,omitempty"`     // what keeps it, or removes it
}

// Spec is the commit of a directory of a repository, whichever generation builds it.
func (s Source) Spec() string { return Key("spec", s.Identity(), s.Commit, s.Subdir) }

// DiskUse is where the bytes of a worker's disk are, or of those of several. The parts add up to the total.
type DiskUse struct {
	Images   int64            `json:"images"`   // layers of one image only
	Shared   int64            `json:"shared"`   // layers that several images stand on
	Sessions int64            `json:"sessions"` // written by sessions
	Cache    int64            `json:"cache"`    // build cache that no image needs
	Other    int64            `json:"other"`    // bases, downloads, records, logs
	Total    int64            `json:"total"`
	Own      map[string]int64 `json:"own,omitempty"`    // by image, what goes when it is removed
	Silent   []string         `json:"silent,omitempty"` // workers that are not counted: they do not say
}

// Add counts another worker's disk in.
func (u *DiskUse) Add(v DiskUse) {
	u.Images += v.Images
	u.Shared += v.Shared
	u.Sessions += v.Sessions
	u.Cache += v.Cache
	u.Other += v.Other
	u.Total += v.Total
	for name, n := range v.Own {
		u.Own[name] += n
	}
}

// A RolloutPlan says what a roll-out would cost and bring, from the launches of late.
type RolloutPlan struct {
	At         time.Time     `json:"at"`
	From       string        `json:"from"`
	To         string        `json:"to"`
	Images     int           `json:"images"`  // that serve and are not of the new generation
	Rolled     int           `json:"rolled"`  // of them that would be replaced
	Skipped    int           `json:"skipped"` // that nobody launched for long
	Window     time.Duration `json:"window"`  // of launches that it was reckoned from
	Launches   int           `json:"launches"`
	Demand     []Demand      `json:"demand"`     // builds that visitors would need if every image were gone at once
	Slots      int           `json:"slots"`      // of all workers
	Background float64       `json:"background"` // of them that builds of visitors leave to it, on average
	Build      time.Duration `json:"build"`      // mean of such a build
	Takes      time.Duration `json:"takes"`      // until all are replaced
	Covered    []Coverage    `json:"covered"`
	Notes      []string      `json:"notes"`
}

// Demand is how many images are asked for within some time from now, as on the weekdays before, or at weekends on those.
type Demand struct {
	Within time.Duration `json:"within"`
	Builds float64       `json:"builds"` // mean over those days
	Days   int           `json:"days"`   // that were looked at
}

// Coverage is the share of launches that go to the most popular images.
type Coverage struct {
	Top   int           `json:"top"`
	Share float64       `json:"share"`
	Takes time.Duration `json:"takes"` // until they are replaced
}

// A GenerationEvent is a step in the life of a generation, or what became of one image in it.
type GenerationEvent struct {
	Time       time.Time       `json:"time"`
	Generation string          `json:"generation"`
	Event      string          `json:"event"` // "state", "proven", "held", "invalidated", "removed" or ImageDropped
	State      GenerationState `json:"state,omitempty"`
	Source     Source          `json:"source,omitzero"`
	Worker     string          `json:"worker,omitempty"` // that dropped the image
	Who        string          `json:"who,omitempty"`
	Reason     string          `json:"reason,omitempty"`
}

// ImageDropped is the event of an image that a worker removed by itself, because its disk was short of room.
const ImageDropped = "dropped"

// A Selector chooses images: all, those of a generation, or those of a repository or an owner.
type Selector struct {
	Text       string
	All        bool
	Generation string
	Pattern    Pattern
}

// ParseSelector reads "*", "generation:NAME", or a pattern of repositories as rules have it.
func ParseSelector(text string) (Selector, error) {
	text = strings.TrimSpace(text)
	sel := Selector{Text: text}
	if text == "*" {
		sel.All = true
		return sel, nil
	}
	if name, ok := strings.CutPrefix(text, "generation:"); ok {
		if name == "" || len(name) > 100 || hasControl(name) || strings.ContainsAny(name, " */") {
			return Selector{}, Errorf(ErrInvalid, User, "List them with `bindery generation ls`.", "%q does not name a generation", Printable(text))
		}
		sel.Generation = name
		return sel, nil
	}
	p, err := ParsePattern(text)
	if err != nil || p.Scope != OnRepository && p.Scope != OnOwner {
		return Selector{}, Errorf(ErrInvalid, User, `Write "*", generation:NAME, gh/owner/repository, gh/owner/* or https://host/owner/repository.`,
			"%q does not select images", Printable(text))
	}
	sel.Pattern = p
	return sel, nil
}

// Selects reports whether s chooses the image.
func (s Selector) Selects(r ImageRecord) bool {
	switch {
	case s.All:
		return true
	case s.Generation != "":
		return r.Generation == s.Generation
	}
	return slices.Contains(s.Pattern.Names, r.Source.Identity()) || slices.Contains(s.Pattern.Names, r.Source.Owner())
}

// Invalidation says what invalidating images costs, or has done.
type Invalidation struct {
	Selector  string        `json:"selector"`
	Forced    bool          `json:"forced"`
	Done      bool          `json:"done"`
	Images    int           `json:"images"`
	Launches  int           `json:"launches"`   // of them in the last 24 hours
	FirstHour float64       `json:"first_hour"` // builds that visitors would wait for within an hour, as on the days before
	FirstDay  float64       `json:"first_day"`
	Wait      time.Duration `json:"wait"`  // until the builds of the first hour are done, at all slots
	Build     time.Duration `json:"build"` // slot time that building them again takes
	Kept      int           `json:"kept"`  // that are in use and stay until then
	Words     string        `json:"words"`
}

// Retention says which images `images prune` leaves. Zero values are the defaults.
type Retention struct {
	Unused      time.Duration `json:"unused,omitempty"`      // an image goes when nobody launched it for so long. default: never
	Superseded  time.Duration `json:"superseded,omitempty"`  // one whose successor is proven goes when that has been so for so long. default: 7 days
	Top         int           `json:"top,omitempty"`         // the most popular ones stay whatever their age. default: 100
	Generations int           `json:"generations,omitempty"` // superseded ones of so many generations before the current one stay. default: 0
}

// Or returns the rule with what it leaves out taken from another one.
func (r Retention) Or(s Retention) Retention {
	return Retention{
		Unused: cmp.Or(r.Unused, s.Unused), Superseded: cmp.Or(r.Superseded, s.Superseded),
		Top: cmp.Or(r.Top, s.Top), Generations: cmp.Or(r.Generations, s.Generations),
	}
}

// Pruned is what a removal of images did, or would do.
type Pruned struct {
	DryRun  bool          `json:"dry_run"`
	Removed []ImageRecord `json:"removed"`
	Kept    int           `json:"kept"`
	Bytes   int64         `json:"bytes"`
}

// Library is the images of a hub, and where the disk went.
type Library struct {
	Images []ImageRecord `json:"images"`
	More   int           `json:"more,omitempty"` // that are not listed
	Disk   *DiskUse      `json:"disk,omitempty"` // of all workers; nil: none says
}
