package bindery

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// A BuildState is where a build is in its life.
type BuildState string

const (
	BuildQueued    BuildState = "queued"    // stored; waits for a slot
	BuildRunning   BuildState = "running"   // one attempt is on a worker
	BuildSucceeded BuildState = "succeeded" // its image exists
	BuildFailed    BuildState = "failed"    // its error says whose fault it was
	BuildCancelled BuildState = "cancelled" // nobody wanted it any more
)

// BuildStates lists all states; BuildMoves, for each, the states it may be left for. The store's CHECK constraint
// and the diagram in docs/ARCHITECTURE.md are tested against the two.
func BuildStates() []BuildState {
	return []BuildState{BuildQueued, BuildRunning, BuildSucceeded, BuildFailed, BuildCancelled}
}

// BuildMoves returns the states that s may be left for.
func BuildMoves(s BuildState) []BuildState {
	switch s {
	case BuildQueued:
		return []BuildState{BuildRunning, BuildFailed, BuildCancelled}
	case BuildRunning:
		return []BuildState{BuildQueued, BuildSucceeded, BuildFailed, BuildCancelled} // queued again: the worker was lost
	case BuildFailed, BuildCancelled:
		return []BuildState{BuildQueued} // asked for again
	}
	return nil
}

// Ended reports whether a build in state s is over.
func (s BuildState) Ended() bool {
	return s == BuildSucceeded || s == BuildFailed || s == BuildCancelled
}

// A Class says what kind of asker waits for a build.
type Class string

const (
	Attended   Class = "attended"   // a person waits
	Unattended Class = "unattended" // a script, a bot, a prebuild hook
	Background Class = "background" // roll-out, prewarm
)

// A Build is the one record of one image being made. Any number of watchers read its events; watching costs no slot.
type Build struct {
	ID      string       `json:"id"`
	Key     string       `json:"key"` // BuildKey of its source; at most one build of a key is queued or running
	Source  Source       `json:"source"`
	Class   Class        `json:"class"`
	State   BuildState   `json:"state"`
	Attempt int          `json:"attempt"` // of the running or last attempt; 0 before the first
	Worker  string       `json:"worker,omitempty"`
	Result  *BuildResult `json:"result,omitempty"` // when succeeded
	Err     *Error       `json:"error,omitempty"`  // when failed or cancelled
	Created time.Time    `json:"created"`
	Started time.Time    `json:"started,omitzero"`
	Ended   time.Time    `json:"ended,omitzero"`

	// What the queue must not forget. Until: a queued build is not started before it, and a failed one answers for
	// its key until then. Charged: attempts that failed and were held against it. Row: failed builds of this key in a
	// row, this one included.
	Until     time.Time `json:"until,omitzero"`
	Charged   int       `json:"charged,omitempty"`
	Row       int       `json:"row,omitempty"`
	Evidence  string    `json:"evidence,omitempty"` // what its class was judged by, in words
	Requester string    `json:"-"`                  // who asked first; not for others to read

	Kind        string `json:"kind,omitempty"`        // of its plan, once that is known: builds of one kind cost alike
	Quick       bool   `json:"quick,omitempty"`       // its running or last attempt took no slot
	Slow        bool   `json:"slow,omitempty"`        // it ran into the age limit: it is for the slow lane
	Forced      int    `json:"forced,omitempty"`      // retries of its key so far that did not wait for a failure to be forgotten
	Quarantined bool   `json:"quarantined,omitempty"` // it was too slow even for the slow lane
	Disk        int64  `json:"disk,omitempty"`        // bytes that it took at most, if that is known
	Generation  string `json:"generation,omitempty"`  // that is to make it; empty: whichever the worker has
}

// BuildKey coalesces requests: equal keys ask for the same image. It is known before the repository is fetched,
// unlike the image key, which needs its files.
func BuildKey(s Source, generation string) string {
	return hashOf("build", s.Identity(), s.Commit, s.Subdir, generation)
}

// A BuildRequest asks a worker for one attempt of one build. (ID, Attempt) names it; asking twice is harmless.
type BuildRequest struct {
	ID      string   `json:"id"`
	Attempt int      `json:"attempt"`
	Source  Source   `json:"source"`
	Quick   bool     `json:"quick,omitempty"` // only if its environment is there; otherwise it ends at once, with not-ready
	Base    string   `json:"base,omitempty"`  // "debian:SUITE" or an image reference; default: the worker's
	Push    []string `json:"push,omitempty"`  // image names to push the result to
	OCI     string   `json:"oci,omitempty"`   // directory for an OCI layout of the result
	Export  Export   `json:"export,omitzero"`
	// Appendix is lines of a Dockerfile that are built onto the image; default: the worker's.
	Appendix string `json:"appendix,omitempty"`
	// Recipe is what a generation is made by, in the place of the worker's own base, appendix and suites. The rules stay
	// the worker's: the result says which generation that came to.
	Recipe *Recipe `json:"recipe,omitempty"`
}

// Compressions are the ways that layers may be compressed when they leave this machine, the default first.
func Compressions() []string { return []string{"zstd", "gzip", "estargz", "none"} }

// Export says how a result is written that is pushed or goes to a directory, and where finished steps are kept beside
// this machine. Nothing of it changes what is built.
type Export struct {
	Compression string   `json:"compression,omitempty"` // one of Compressions
	CacheFrom   []string `json:"cache_from,omitempty"`  // images to take finished steps from
	CacheTo     string   `json:"cache_to,omitempty"`    // image to leave finished steps in
	Provenance  bool     `json:"provenance,omitempty"`  // attach how it was made, as an in-toto statement in SLSA's form
	SBOM        bool     `json:"sbom,omitempty"`        // attach what is in it, in SPDX's form
}

// A BuildResult is what a successful build made.
type BuildResult struct {
	Image      string             `json:"image"` // the name it is launched by
	EnvKey     string             `json:"env_key"`
	ImageKey   string             `json:"image_key"`
	Generation string             `json:"generation"`
	Steps      Steps              `json:"steps"`
	Seconds    map[string]float64 `json:"seconds"`          // by stage: fetch, plan, solve, export
	Digest     string             `json:"digest,omitempty"` // of the manifest, when it was pushed or written
	Copies     bool               `json:"copies,omitempty"` // of another commit with the same environment the files are only copied
	Kind       string             `json:"kind,omitempty"`   // of the plan: builds of one kind cost alike
	Size       int64              `json:"size,omitempty"`   // bytes of the image's layers, when it was made now
}

// Steps counts the commands of a build.
type Steps struct {
	Run    int `json:"run"`    // executed now
	Cached int `json:"cached"` // taken from an earlier build
}

// An Image is what sessions start from: a snapshot that a lease keeps, and the configuration to start it with.
type Image struct {
	Name     string      `json:"name"`
	EnvKey   string      `json:"env_key"`
	ImageKey string      `json:"image_key"`
	Source   Source      `json:"source"`
	Config   ImageConfig `json:"config"`
	Size     int64       `json:"size"` // bytes of its own layers
	Created  time.Time   `json:"created"`
	Used     time.Time   `json:"used"` // last launch
}

// ImageConfig is the part of an OCI image configuration that a launch reads.
type ImageConfig struct {
	User       string            `json:"user"`
	WorkingDir string            `json:"working_dir"`
	Env        []string          `json:"env"` // K=V
	Entrypoint []string          `json:"entrypoint"`
	Cmd        []string          `json:"cmd"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// Rootfs is a writable root file system prepared for one session: mounts to make, in order, and how to start in it.
type Rootfs struct {
	Mounts []Mount     `json:"mounts"`
	Config ImageConfig `json:"config"`
}

// A Mount is one mount(2): type, source, options.
type Mount struct {
	Type    string   `json:"type"`
	Source  string   `json:"source"`
	Options []string `json:"options"`
}

// hashOf is the one way that keys are made: a domain word, then length-framed parts.
func hashOf(parts ...string) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, p := range parts {
		_ = enc.Encode(p) // a hash never fails to write, a string never to encode
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Key makes a key of kind ("env", "image", ...) from parts, in order.
func Key(kind string, parts ...string) string { return hashOf(append([]string{kind}, parts...)...) }
