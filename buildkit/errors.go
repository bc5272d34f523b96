package buildkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	solvererrdefs "github.com/moby/buildkit/solver/errdefs"

	bindery "github.com/bindery-hub/bindery"
)

var exitCodeRE = regexp.MustCompile(`exit code: (\d+)`)

// solveError turns what a solve ended with into words: whose step failed, with what, and what it said last.
func (p *progress) solveError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		if e, ok := errors.AsType[*bindery.Error](context.Cause(ctx)); ok {
			return e
		}
		kind, word := bindery.ErrCancelled, "cancelled"
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			kind, word = bindery.ErrTimeout, "stopped: it took too long"
		}
		return bindery.Errorf(kind, bindery.User, "", "The build was %s", word).Because(ctx.Err())
	}
	if e, ok := errors.AsType[*bindery.Error](err); ok {
		return e
	}
	err = p.uncover(err)
	step, code := p.failed(err), exitCode(err)
	if step == nil {
		return p.otherError(err)
	}
	said := step.said()
	if p.explain != nil {
		if e := p.explain(step.name, code, said); e != nil {
			return e.Because(err)
		}
	}
	if p.diskFull(said+err.Error()) || code < 0 && p.ranOut(err) {
		return noSpace().Because(fmt.Errorf("%s: %w", step.name, err))
	}
	if step.fetches || code < 0 {
		if e := p.trouble(said+"\n"+err.Error(), err); e != nil {
			return e.Because(fmt.Errorf("%s: %w", step.name, err))
		}
	}
	if code < 0 {
		return p.otherError(err)
	}
	return stepError(step, code, said, p.place(err), err)
}

// stepError is for a command that failed; place says where it is written, if that is known.
func stepError(step *vertex, code int, said, place string, err error) error {
	remedy := "Read the lines above, correct the repository and build again."
	msg := fmt.Sprintf("%s%q failed with exit code %d", place, step.name, code)
	if code == 137 {
		remedy = "Make the step use less memory; the operator can raise the limit of build steps."
		msg = fmt.Sprintf("%s%q was killed, most likely because it ran out of memory", place, step.name)
	}
	if said != "" {
		msg += ":\n" + said
	}
	fault := bindery.User
	if step.ours {
		fault, remedy = bindery.Ours, "Tell the operator: this step is part of every build."
	}
	return bindery.Errorf(bindery.ErrStep, fault, remedy, "%s", msg).Because(err)
}

// otherError is for what fails before or beside a command: a Dockerfile that cannot be read, an image that is not
// there, a file that COPY does not find.
func (p *progress) otherError(err error) error {
	if p.diskFull(err.Error()) || p.ranOut(err) {
		return noSpace().Because(err)
	}
	if e := p.trouble(err.Error(), err); e != nil {
		return e.Because(err)
	}
	if !p.theirs {
		return fmt.Errorf("solve: %w", err)
	}
	text := err.Error()
	if i := strings.LastIndex(text, "desc = "); i >= 0 {
		text = text[i+len("desc = "):]
	}
	return bindery.Errorf(bindery.ErrStep, bindery.User, "Correct the Dockerfile and build again.", "%s%s",
		cmp.Or(p.place(err), "The Dockerfile cannot be built: "), innerRE.ReplaceAllString(text, "")).Because(err)
}

// innerRE are the parts of an error that speak of how BuildKit works inside, or of the line, which place names.
var innerRE = regexp.MustCompile(`^failed to solve: |failed to (?:compute|load) cache key: |failed to calculate checksum of ref \S+: |failed to load LLB: |dockerfile parse error on line \d+: `)

// place is the line of the repository's Dockerfile that err is about, like "binder/Dockerfile, line 3: ".
func (p *progress) place(err error) string {
	if !p.theirs {
		return ""
	}
	for _, src := range solvererrdefs.Sources(err) {
		if src.Info != nil && len(src.Ranges) > 0 && src.Ranges[0].Start != nil {
			return fmt.Sprintf("%s, line %d: ", bindery.Printable(src.Info.Filename), src.Ranges[0].Start.Line)
		}
	}
	return ""
}

// exitCode is what a step's command exited with, or -1 when no command failed.
func exitCode(err error) int {
	if e, ok := errors.AsType[*gatewaypb.ExitError](err); ok && e.ExitCode != gatewaypb.UnknownExitStatus {
		return int(e.ExitCode)
	}
	if m := exitCodeRE.FindStringSubmatch(err.Error()); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			return n
		}
	}
	return -1
}

// releasedTwice is what BuildKit reports in place of a failed step's own error when two mounts of the step come from one
// result: it gives one of the two back twice.
const releasedTwice = "releasing already released reference"

// uncover returns what the first step to fail ended with, where err says nothing of it, and nothing of its line.
func (p *progress) uncover(err error) error {
	if !strings.Contains(err.Error(), releasedTwice) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var first *vertex
	for _, v := range p.vertices {
		if v.err == "" || strings.HasSuffix(v.err, context.Canceled.Error()) {
			continue
		}
		if first == nil || v.state.Ended.Before(first.state.Ended) {
			first = v
		}
	}
	if first == nil {
		return err
	}
	hidden := errors.New(first.err)
	if p.source == nil {
		return hidden
	}
	return solvererrdefs.WithSource(hidden, p.source(first.name))
}

// failed finds the step that err is about.
func (p *progress) failed(err error) *vertex {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := errors.AsType[*solvererrdefs.VertexError](err); ok {
		for d, v := range p.vertices {
			if d.String() == e.Digest {
				return v
			}
		}
	}
	for _, v := range p.vertices {
		if v.err != "" && strings.Contains(err.Error(), v.err) {
			return v
		}
	}
	return nil
}
