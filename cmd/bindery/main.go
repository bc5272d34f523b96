// Command bindery turns Git repositories into running Jupyter sessions.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// Exit statuses. `bindery run REPO -- CMD` ends with CMD's own.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	status := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// A command line is a struct: fields are flags and arguments, tags describe them. docs/configuration.md says which
// flags have a key in the configuration file; a flag wins over its variable, the variable over the file.
type commandLine struct {
	StateDir string `help:"Where everything is kept (default ${state_dir})." placeholder:"DIR" env:"BINDERY_STATE_DIR"`
	Config   string `help:"Configuration file (default ${config}, when it exists)." placeholder:"FILE" env:"BINDERY_CONFIG"`
	Runtime  string `help:"The runc program (default: beside bindery, then on the PATH)." placeholder:"PROGRAM" env:"BINDERY_RUNC"`

	Run      runCmd      `cmd:"" help:"Build a repository when needed, start a session, print its URL."`
	Build    buildCmd    `cmd:"" help:"Build the image of a repository."`
	Plan     planCmd     `cmd:"" help:"Say what a repository's files ask for, and why."`
	Freeze   freezeCmd   `cmd:"" help:"Write lock files of what an image has installed."`
	Sessions sessionsCmd `cmd:"" help:"List, stop and read running sessions."`
	Launch   launchCmd   `cmd:"" help:"Launch a repository at a hub, this one or any other Binder, and print its URL."`
	Serve    serveCmd    `cmd:"" help:"Serve a hub: pages, API and sessions for visitors."`
	Queue    queueCmd    `cmd:"" help:"Show a hub's queue: what runs, what waits and why."`
	Top      topCmd      `cmd:"" help:"Show live what a hub does: slots, queue, workers, sessions, rates."`
	Builds   buildsCmd   `cmd:"" help:"List, show, cancel, retry and read a hub's builds."`
	Ban      banCmd      `cmd:"" help:"Refuse a repository, an owner or a requester."`
	Hold     holdCmd     `cmd:"" help:"Let builds of a repository, an owner or a requester wait."`
	Quota    quotaCmd    `cmd:"" help:"Limit sessions of a repository, an owner or a requester."`
	Weight   weightCmd   `cmd:"" help:"Weigh the share of an owner or a requester."`
	Audit    auditCmd    `cmd:"" help:"Print who changed what on a hub, when and why."`
	Events   eventsCmd   `cmd:"" help:"Export what happened at a hub."`
	Metrics  metricsCmd  `cmd:"" help:"Print what Prometheus and Grafana need to watch a hub."`
	Worker   workerCmd   `cmd:"" help:"Serve builds to the hub and the command line of one state directory."`
	Workers  workersCmd  `cmd:"" help:"List, show, drain and remove a hub's workers; make tokens to join by."`
	Pool     poolCmd     `cmd:"" help:"Node pools: list them, print the commands that make them, compare them with the workers."`

	Generation generationCmd `cmd:"" help:"Plan, start, watch and take back the roll-out of a new generation of images."`
	Images     imagesCmd     `cmd:"" help:"List, remove and prune a hub's images."`

	Sim     simCmd     `cmd:"" help:"Simulate the queue."`
	Doctor  doctorCmd  `cmd:"" help:"Say what this machine lacks, and the remedy of each."`
	Version versionCmd `cmd:"" help:"Say which version this is."`
}

// An app is what every command starts from.
type app struct {
	line    *commandLine
	cfg     config
	inst    instance
	args    []string // of the whole command line
	getenv  func(string) string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
	runtime string // as asked for, not yet looked up
}

// run is the whole program. It returns the exit status.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == shimCommand {
		return shim(ctx, args[1], stderr)
	}
	if len(args) > 1 && args[0] == gitSSHCommand {
		return gitSSH(args[1:], getenv, stdin, stdout, stderr)
	}
	a := &app{line: new(commandLine), args: args, getenv: getenv, stdin: stdin, stdout: stdout, stderr: stderr}
	helped := false
	parser, err := a.parser(func(int) { helped = true })
	if err != nil {
		fmt.Fprintln(stderr, "bindery:", err)
		return exitFailed
	}
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help": // asked of many programs so
		args = append(slices.Clone(args[1:]), "--help")
	case args[0] == "--version":
		args = append([]string{"version"}, args[1:]...)
	}
	kctx, err := parser.Parse(args)
	if helped {
		return exitOK
	}
	if err != nil {
		return a.usage(err)
	}
	if err := a.settle(); err != nil {
		return a.status(ctx, err)
	}
	command, ok := kctx.Selected().Target.Addr().Interface().(runner)
	if !ok {
		return a.status(ctx, fmt.Errorf("%s cannot be run", kctx.Command()))
	}
	return a.status(ctx, command.Run(ctx, a)) // not by the parser, whose memory a server would keep
}

// A runner is a command with its flags.
type runner interface {
	Run(context.Context, *app) error
}

// parser reads command lines into a.line. It calls exit after it has printed help.
func (a *app) parser(exit func(int)) (*kong.Kong, error) {
	return kong.New(a.line,
		kong.Name("bindery"),
		kong.Description("Bindery turns a Git repository into a running, shareable computing environment."),
		kong.Writers(a.stdout, a.stderr),
		kong.Exit(exit),
		kong.Help(help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.Vars{"state_dir": defaultStateDir, "config": defaultConfig, "base": plan.DefaultBase,
			"listen": defaultListen, "session_listen": defaultSessionListen},
	)
}

// settle reads the configuration file and what it says about the flags of all commands.
func (a *app) settle() (err error) {
	if a.cfg, err = readConfig(a.line.Config); err != nil {
		return err
	}
	a.runtime = cmp.Or(a.line.Runtime, a.cfg.Runtime)
	a.inst, err = newInstance(cmp.Or(a.line.StateDir, a.cfg.StateDir))
	return err
}

// A statusError ends the program with a status of its own and without a word.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// A usageError is a command line that the parser took and the command cannot.
type usageError struct{ msg string }

func (e usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

func (a *app) usage(err error) int {
	fmt.Fprintf(a.stderr, "bindery: %s\n", clean(err.Error()))
	fmt.Fprintln(a.stderr, "Try `bindery --help`, or --help after a command.")
	return exitUsage
}

// status prints err and returns the exit status that it stands for.
func (a *app) status(ctx context.Context, err error) int {
	var own statusError
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &own):
		return int(own)
	case errors.As(err, &usage):
		return a.usage(err)
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, bindery.ErrCancelled)):
		fmt.Fprintln(a.stderr, "bindery: interrupted")
		return exitInterrupted
	}
	printError(a.stderr, err)
	return exitFailed
}

// printError says what happened, why, and what to do about it.
func printError(w io.Writer, err error) {
	e, ok := errors.AsType[*bindery.Error](err)
	if !ok {
		fmt.Fprintf(w, "bindery: %s\n", strings.TrimSpace(cleanLines(err.Error())))
		return
	}
	text := err.Error()
	fmt.Fprintf(w, "bindery: %s\n", strings.TrimSpace(cleanLines(text)))
	if e.Remedy != "" {
		fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(cleanLines(e.Remedy), "\n", "\n  "))
	}
}

// cleanLines is clean for text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

// help prints the help of a command, with the one thing that the parser's grammar cannot say: the part after --.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	var text bytes.Buffer
	out := ctx.Stdout
	ctx.Stdout = &text
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = out
	if err == nil {
		_, err = io.WriteString(out, strings.Replace(text.String(), "[<cmd> ...]", "[-- <cmd> ...]", 1))
	}
	return err
}

// afterDashes returns what follows the first "--" of the command line.
func (a *app) afterDashes() (rest []string, ok bool) {
	i := slices.Index(a.args, "--")
	if i < 0 {
		return nil, false
	}
	return a.args[i+1:], true
}
