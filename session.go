package bindery

import "time"

// A SessionState is where a session is in its life.
type SessionState string

const (
	SessionPending  SessionState = "pending"  // admitted and stored; its container is being started
	SessionReady    SessionState = "ready"    // its server answers
	SessionStopping SessionState = "stopping" // to be taken down; Reason says why
	SessionEnded    SessionState = "ended"    // gone; Exit says how
)

// SessionStates lists all states.
func SessionStates() []SessionState {
	return []SessionState{SessionPending, SessionReady, SessionStopping, SessionEnded}
}

// SessionMoves returns the states that s may be left for.
func SessionMoves(s SessionState) []SessionState {
	switch s {
	case SessionPending:
		return []SessionState{SessionReady, SessionStopping, SessionEnded}
	case SessionReady:
		return []SessionState{SessionStopping, SessionEnded}
	case SessionStopping:
		return []SessionState{SessionEnded}
	}
	return nil
}

// A Session is one launched environment. Its record is the truth; containers are made to agree with it.
type Session struct {
	ID        string       `json:"id"`
	Build     string       `json:"build,omitempty"`
	Image     string       `json:"image"` // name of the image it was launched from
	Source    Source       `json:"source"`
	State     SessionState `json:"state"`
	Token     string       `json:"token,omitempty"`   // opens it; never listed or logged
	Address   string       `json:"address,omitempty"` // host:port of its server, reachable from this machine
	Limits    Limits       `json:"limits"`
	Reason    string       `json:"reason,omitempty"` // why it is stopping or has ended, in words
	Exit      *Exit        `json:"exit,omitempty"`
	Created   time.Time    `json:"created"`
	Ready     time.Time    `json:"ready,omitzero"`
	Active    time.Time    `json:"active,omitzero"` // last traffic
	Ended     time.Time    `json:"ended,omitzero"`
	Requester string       `json:"-"` // of the Ask; not for others to read
	Request   string       `json:"-"` // of the Ask: launching again with the same one finds this session
}

// BasePath is where a session is served on the sessions' origin. It begins and ends with a slash.
func (s Session) BasePath() string { return "/user/" + s.ID + "/" }

// Limits bound one session. Zero values take the launcher's defaults; they never mean "no limit".
type Limits struct {
	Memory int64         `json:"memory"` // bytes
	CPU    float64       `json:"cpu"`    // cores
	PIDs   int64         `json:"pids"`
	Log    int64         `json:"log"`  // bytes of log kept
	Idle   time.Duration `json:"idle"` // culled after so long without traffic
	Age    time.Duration `json:"age"`  // culled when so old
}

// A Launch asks a launcher for one container.
type Launch struct {
	ID     string   `json:"id"`    // of the session: [a-z0-9-]{1,63}
	Image  string   `json:"image"` // name of an image that the worker holds
	Args   []string `json:"args"`  // what the image's entrypoint runs; empty: the image's own command
	Env    []string `json:"env"`   // K=V, beside the image's
	Port   int      `json:"port"`  // that the server listens on inside; 0 when nothing listens
	Limits Limits   `json:"limits"`
}

// A Running container, as its launcher sees it.
type Running struct {
	ID      string    `json:"id"`
	PID     int       `json:"pid"`
	Address string    `json:"address"` // host:port; empty when the launch named no port
	Started time.Time `json:"started"`
}

// An Exit says how a container ended.
type Exit struct {
	Code        int       `json:"code"`                    // of its first process; 128+n when signal n ended it; -1 when nobody saw it
	OutOfMemory bool      `json:"out_of_memory,omitempty"` // the kernel killed something in it for its memory limit
	Time        time.Time `json:"time"`
}
