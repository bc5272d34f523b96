// Package archtest holds the import table of the house: which package may import what.
//
// Its test reads every package and compares. A new edge is a change of one line here, with its reason.
package archtest

// A rule says what a package may import beyond the root package, which all may.
type rule struct {
	inside  []string // packages of this module
	outside []string // import path prefixes of other modules
	noStd   []string // packages of the standard library that it may not import, with all below them
	pure    bool     // no clock, no goroutines
	kit     bool     // made for tests: may import what tests may
	tests   []string // adapters that its tests use for real
	bubbles bool     // its tests run in synctest bubbles, in which sleeping takes no time
	why     string
}

// rules is the table. A package that is not in it may not exist.
var rules = map[string]rule{
	"": {why: "the domain: any two packages can talk about it without importing each other"},

	// Decide.
	"sched": {
		noStd: []string{"context", "os", "net", "sync", "log", "math/rand", "crypto/rand"}, pure: true,
		why: "a function of state, time and input, so that every fault in it is a text file",
	},
	"rollout": {
		noStd: []string{"context", "os", "net", "sync", "log", "math/rand", "crypto/rand"}, pure: true,
		why: "how a generation takes over, as a function of state, time and input",
	},
	"plan": {
		outside: []string{"github.com/moby/patternmatcher", "github.com/pelletier/go-toml/v2", "go.yaml.in/yaml/v3"},
		noStd:   []string{"os", "net", "math/rand", "crypto/rand"}, pure: true,
		why: "a function of the repository's files: equal files, equal plan",
	},
	"inventory": {
		outside: []string{"github.com/pelletier/go-toml/v2"},
		noStd:   []string{"os", "net/http", "math/rand", "crypto/rand"}, pure: true,
		why: "what an image has installed, read from its files; never run",
	},
	"sim": {
		inside: []string{"sched", "rollout"}, outside: []string{"golang.org/x/image"}, noStd: []string{"os", "net", "crypto/rand"}, pure: true,
		why: "the same sched in a virtual machine room: no clock but its own, no chance but its seed's; letters of charts",
	},
	"api": {why: "wire types, shared by server and client"},

	// Run.
	"build":  {inside: []string{"plan"}, why: "one build from start to end; what does the work comes in as interfaces"},
	"worker": {inside: []string{"api"}, outside: []string{"golang.org/x/sys/unix"}, why: "serves builds over a socket; namespaces need system calls"},
	"dispatch": {
		inside: []string{"sched", "rollout"}, tests: []string{"store"}, bubbles: true,
		why: "the shell round sched and rollout; that nothing is lost is tested with the real store",
	},
	"proxy": {why: "visitors' traffic to sessions"},
	"admin": {inside: []string{"api"}, why: "operators' pages over the native API, which they use as any client does"},
	"web":   {inside: []string{"api"}, outside: []string{"github.com/golang-jwt/jwt/v5"}, why: "HTTP, pages, signed build tokens"},

	// Outside things, one each. None imports another.
	"source": {outside: []string{"golang.org/x/sys/unix", "golang.org/x/crypto/ssh"}, why: "Git repositories through the git program in a box; forges and archives by their APIs"},
	"buildkit": {
		inside: []string{"plan", "inventory"},
		outside: []string{
			"github.com/moby/buildkit", "github.com/tonistiigi/fsutil", "github.com/containerd", "github.com/opencontainers",
			"github.com/moby/sys/user", "github.com/moby/patternmatcher", "github.com/distribution/reference", "github.com/docker/cli/cli/config",
			"github.com/klauspost/compress/zstd", "go.etcd.io/bbolt", "google.golang.org/grpc", "github.com/gofrs/flock",
			"github.com/sirupsen/logrus", "golang.org/x/sync", "golang.org/x/sys/unix",
		},
		why: "the one package that knows BuildKit; its stores are containerd's libraries, its interface is gRPC",
	},
	"runc": {
		outside: []string{
			"github.com/opencontainers/runtime-spec", "github.com/containerd/containerd/v2/contrib/seccomp", "github.com/containerd/containerd/v2/core/mount",
			"golang.org/x/sys/unix",
		},
		tests: []string{"bridge"},
		why:   "containers by the runc program; that nothing leaks is tested with the real network; containerd's libraries know mounts and the usual system calls",
	},
	"bridge": {
		outside: []string{"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "github.com/google/nftables", "golang.org/x/sys/unix"},
		why:     "the network of steps and sessions, by netlink",
	},
	"canary":  {bubbles: true, why: "builds and launches of the hub's own; the hub and its addresses come in as an interface and functions"},
	"oauth":   {why: "where visitors sign in, by OAuth 2"},
	"metrics": {outside: []string{"github.com/prometheus/client_golang"}, why: "Prometheus series, from what the hub tells it"},
	"traces":  {outside: []string{"go.opentelemetry.io/otel"}, why: "spans for an OpenTelemetry collector, made of what has ended"},
	"store":   {outside: []string{"modernc.org/sqlite"}, why: "the database"},

	// Wire.
	"cmd/bindery": {
		inside:  []string{"*"},
		outside: []string{"github.com/alecthomas/kong", "golang.org/x/sync", "golang.org/x/sys/unix", "golang.org/x/term", "golang.org/x/text", "go.yaml.in/yaml/v3"},
		why:     "the only place where the parts meet",
	},

	// Test.
	"internal/archtest":    {why: "this table"},
	"internal/browsertest": {kit: true, why: "Chromium on the storybooks of web and admin"},
	"internal/conformance": {kit: true, why: "what every Binder must do, against a hub with fakes and the real one"},
	"internal/corpus":      {inside: []string{"plan"}, why: "the sample repositories, for the tests of several packages"},
	"internal/e2e":         {inside: []string{"api", "internal/conformance", "internal/corpus", "internal/pythons", "oauth/oauthtest", "source/sourcetest"}, outside: []string{"github.com/vishvananda/netlink", "github.com/vishvananda/netns"}, why: "the real binary, from outside; a neighbour on a link of its own"},
	"internal/scenario":    {kit: true, why: "the text files by which sched and rollout are tested"},
	"internal/scratch":     {kit: true, outside: []string{"golang.org/x/sys/unix"}, why: "directories of test runs, and what killed runs left"},
	"internal/pythons":     {kit: true, why: "interpreters in uv's own format, for the tests of several packages"},
	"oauth/oauthtest":      {kit: true, why: "a server to sign in at, for the tests of several packages"},
	"source/sourcetest":    {kit: true, outside: []string{"golang.org/x/crypto/ssh"}, why: "a real Git server for the tests of several packages"},
	"store/storetest":      {kit: true, why: "what every store must do"},
	"internal/condatest":   {kit: true, inside: []string{"internal/pythons"}, outside: []string{"github.com/klauspost/compress/zstd"}, why: "conda channels for the tests of several packages"},
}

// testOutside are the modules that any test may import; packages inside, a test may import all but adapters that are
// not its own.
var testOutside = []string{
	"github.com/google/go-cmp", "pgregory.net/rapid", "github.com/rogpeppe/go-internal", "github.com/coder/websocket",
	"github.com/google/go-containerregistry", "go.opentelemetry.io/proto/otlp", "google.golang.org/protobuf",
}

// adapters know one outside thing each. An adapter imports no other, in its tests neither; only the wiring imports all.
var adapters = []string{"source", "buildkit", "runc", "bridge", "store", "metrics", "traces"}

// longestChain is how many packages an import chain inside the module may hold: wiring, two layers, domain.
const longestChain = 4

// Shape limits of what is not a test.
const (
	maxFunction = 100 // lines; aim below 60
	maxFile     = 800 // lines; aim below 450
)

// badNames are names without a subject: such a package has nothing that keeps it small.
var badNames = []string{"util", "utils", "common", "helpers", "helper", "misc", "types", "models", "base", "shared", "lib"}
