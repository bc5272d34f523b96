package metrics

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// ArchiveConfig configures an Archive.
type ArchiveConfig struct {
	Dir  string           // where its files are; required
	Days int              // that files are kept; default: 90; negative: for good
	Now  func() time.Time // default: time.Now
	Log  *slog.Logger     // default: discard
}

// An Archive writes each launch down, a file for a day: launches-DATE.jsonl as BinderHub's event log has it, and
// requests-DATE.jsonl with what is known beside that, failures included, which say nothing of who asked; steps of
// generations in generations-DATE.jsonl, and so canaries and pools.
type Archive struct {
	cfg   ArchiveConfig
	queue chan []fileLine
}

// NewArchive makes an Archive; Run writes it.
func NewArchive(cfg ArchiveConfig) (*Archive, error) {
	if cfg.Dir == "" {
		return nil, errors.New("metrics: ArchiveConfig needs Dir")
	}
	cfg.Days = cmp.Or(cfg.Days, 90)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("metrics: the archive: %w", err)
	}
	return &Archive{cfg: cfg, queue: make(chan []fileLine, 4096)}, nil
}

// Launched takes a report. It does not wait for the disk: when thousands are behind, a report is lost, and logged.
func (a *Archive) Launched(rep bindery.LaunchReport) {
	if !a.put(linesOf(rep)) {
		a.cfg.Log.Warn("the archive of launches is behind; a line is lost", "build", rep.Build)
	}
}

// Generation takes a step of a generation, likewise.
func (a *Archive) Generation(e bindery.GenerationEvent) {
	line := generationLine{eventAt(e.Time, "generation"), e.Generation, e.Event, e.State, e.Source.URL, e.Source.Commit, e.Worker, e.Who, e.Reason}
	if !a.put([]fileLine{{generationLines, e.Time, line}}) {
		a.cfg.Log.Warn("the archive is behind; a line is lost", "generation", e.Generation)
	}
}

// Canary takes how one build and launch of the hub's own went, likewise.
func (a *Archive) Canary(rep bindery.CanaryReport) {
	line := canaryLine{eventLine: eventAt(rep.Time, "canary"), Build: rep.Build, Session: rep.Session, Took: map[string]float64{}, Failed: rep.Failed, Err: rep.Err}
	for phase, d := range rep.Took {
		line.Took[phase] = d.Seconds()
	}
	if !a.put([]fileLine{{canaryLines, rep.Time, line}}) {
		a.cfg.Log.Warn("the archive is behind; a line is lost", "canary", rep.Build)
	}
}

// Pools takes what a file declares of node pools, when the hub begins and when the file has changed, or why it is not used.
func (a *Archive) Pools(file string, declared any, wrong error) {
	at := a.cfg.Now()
	line := poolsLine{eventLine: eventAt(at, "pools"), File: file, Pools: declared}
	if wrong != nil {
		line.Pools, line.Err = nil, bindery.AsError(wrong)
	}
	if !a.put([]fileLine{{poolLines, at, line}}) {
		a.cfg.Log.Warn("the archive is behind; a line is lost", "file", file)
	}
}

func (a *Archive) put(lines []fileLine) bool {
	select {
	case a.queue <- lines:
		return true
	default:
		return false
	}
}

// Run writes until ctx ends, and then what it has been given before that.
func (a *Archive) Run(ctx context.Context) error {
	files := map[string]*os.File{}
	day := ""
	defer func() { closeAll(files) }()
	write := func(lines []fileLine) {
		for _, l := range lines {
			if today := l.at.UTC().Format(time.DateOnly); today != day {
				closeAll(files)
				clear(files)
				day = today
				a.expire(ctx)
			}
			if err := a.append(files, l.file+"-"+day+".jsonl", l.line); err != nil {
				a.cfg.Log.ErrorContext(ctx, "a launch is not in the archive", "err", err)
			}
		}
	}
	for {
		select {
		case lines := <-a.queue:
			write(lines)
			continue
		case <-ctx.Done():
		}
		for {
			select {
			case lines := <-a.queue:
				write(lines)
			default:
				return nil
			}
		}
	}
}

func closeAll(files map[string]*os.File) {
	for _, f := range files {
		_ = f.Close() // each line was written by itself
	}
}

// append writes a line by one system call, so that a crash leaves whole lines.
func (a *Archive) append(files map[string]*os.File, name string, line any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	f := files[name]
	if f == nil {
		if f, err = os.OpenFile(filepath.Join(a.cfg.Dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			return err
		}
		files[name] = f
	}
	_, err = f.Write(append(text, '\n'))
	return err
}

// expire removes files of days that are over for long. It knows its own by their names.
func (a *Archive) expire(ctx context.Context) {
	if a.cfg.Days < 0 {
		return
	}
	oldest := a.cfg.Now().UTC().AddDate(0, 0, -a.cfg.Days).Format(time.DateOnly)
	for _, kind := range []string{launchLines, requestLines, generationLines, canaryLines, poolLines} {
		names, _ := fs.Glob(os.DirFS(a.cfg.Dir), kind+"-????-??-??.jsonl") // the pattern is right
		for _, name := range names {
			date := strings.TrimSuffix(strings.TrimPrefix(name, kind+"-"), ".jsonl")
			if date >= oldest {
				continue
			}
			if err := os.Remove(filepath.Join(a.cfg.Dir, name)); err != nil {
				a.cfg.Log.WarnContext(ctx, "an old file of the archive stays", "err", err)
			}
		}
	}
}

// The kinds of files.
const (
	launchLines     = "launches"
	requestLines    = "requests"
	generationLines = "generations"
	canaryLines     = "canaries"
	poolLines       = "pools"
)

type fileLine struct {
	file string
	at   time.Time
	line any
}

// A generationLine is a step of a generation, or what became of one image in it.
type generationLine struct {
	eventLine
	Generation string                  `json:"generation"`
	Event      string                  `json:"event"`
	State      bindery.GenerationState `json:"state,omitempty"`
	Repo       string                  `json:"repo,omitempty"`
	Ref        string                  `json:"ref,omitempty"`
	Worker     string                  `json:"worker,omitempty"` // that dropped the image
	Who        string                  `json:"who,omitempty"`
	Reason     string                  `json:"reason,omitempty"`
}

// A canaryLine is one build and launch of the hub's own.
type canaryLine struct {
	eventLine
	Build   string             `json:"build,omitempty"`
	Session string             `json:"session,omitempty"`
	Took    map[string]float64 `json:"phase_seconds"`
	Failed  string             `json:"failed,omitempty"` // the phase
	Err     *bindery.Error     `json:"error,omitempty"`
}

// A poolsLine is what a file declares of node pools from then on.
type poolsLine struct {
	eventLine
	File  string         `json:"file"`
	Pools any            `json:"pools,omitempty"`
	Err   *bindery.Error `json:"error,omitempty"` // why the file is not used
}

// stamp is BinderHub's form of a time.
const stamp = "2006-01-02T15:04:05.000000Z"

// A launchLine is BinderHub's launch event, version 6.
type launchLine struct {
	Timestamp     string `json:"timestamp"`
	Schema        string `json:"schema"`
	Version       int    `json:"version"`
	Provider      string `json:"provider"`
	Spec          string `json:"spec"`
	Ref           string `json:"ref"`
	Status        string `json:"status"`
	Token         bool   `json:"build_token"`
	Origin        string `json:"origin"`
	RequestOrigin string `json:"request_origin"`
}

// A requestLine is the same with what else is known, of failures too.
type requestLine struct {
	launchLine
	Repo     string         `json:"repo"`
	Build    string         `json:"build,omitempty"`
	Session  string         `json:"session,omitempty"`
	Request  string         `json:"request,omitempty"` // its id in the log
	Made     string         `json:"generation,omitempty"`
	Class    bindery.Class  `json:"class"`
	Evidence string         `json:"evidence"`
	Cached   bool           `json:"cached"`
	Built    float64        `json:"built_seconds"`
	Started  float64        `json:"started_seconds"`
	Err      *bindery.Error `json:"error,omitempty"`
}

// linesOf is what is written of a report. BinderHub's schema has successes only.
func linesOf(rep bindery.LaunchReport) []fileLine {
	l := launchLine{
		Timestamp: rep.Time.UTC().Format(stamp), Schema: "binderhub.jupyter.org/launch", Version: 6,
		Provider: NameOf(rep.Provider.Kind), Spec: rep.Spec, Ref: rep.Source.Commit, Status: rep.Status,
		Token: rep.Token, Origin: rep.Origin, RequestOrigin: rep.RequestOrigin,
	}
	full := requestLine{
		launchLine: l, Repo: rep.Repo, Build: rep.Build, Session: rep.Session, Request: rep.Request, Made: rep.Generation, Class: rep.Class, Evidence: rep.Evidence, Cached: rep.Cached,
		Built: rep.Built.Seconds(), Started: rep.Started.Seconds(), Err: rep.Err,
	}
	full.Schema, full.Version = "bindery/launch", 1
	lines := []fileLine{{requestLines, rep.Time, full}}
	if rep.Status == bindery.LaunchSucceeded {
		lines = append(lines, fileLine{launchLines, rep.Time, l})
	}
	return lines
}
