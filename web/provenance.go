package web

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// buildPlan is the plan of a build as its worker made it.
func (s *Server) buildPlan(w http.ResponseWriter, r *http.Request) error {
	c := visitOf(r.Context()).caller
	b, err := s.getBuild(r.Context(), c, r.PathValue("id"))
	if err != nil {
		return err
	}
	p, err := s.planOf(r.Context(), c, b)
	if err != nil {
		return err
	}
	if p == nil {
		return bindery.Errorf(bindery.ErrNotFound, bindery.User, "Ask again when its files were read; `bindery plan` shows the plan of any repository.", "No plan is known of build %s", b.ID)
	}
	return writeJSON(w, http.StatusOK, p)
}

// planOf finds the plan among a build's events: its last, where it was built more than once.
func (s *Server) planOf(ctx context.Context, c Caller, b bindery.Build) (p json.RawMessage, err error) {
	show := s.shownText(c, b.Source)
	for e, err := range s.told(ctx, b) {
		if err != nil {
			return nil, err
		}
		if e.Plan != nil {
			p = shownEvent(show, e).Plan
		}
	}
	return p, nil
}

// told yields what a build has said so far.
func (s *Server) told(ctx context.Context, b bindery.Build) iter.Seq2[bindery.Event, error] {
	if s.cfg.History == nil {
		if b.State.Ended() {
			return s.cfg.Builds.Events(ctx, b.ID, 0)
		}
		return func(func(bindery.Event, error) bool) {}
	}
	const page = 500
	return func(yield func(bindery.Event, error) bool) {
		for after := int64(0); ; {
			events, err := s.cfg.History.Events(ctx, b.ID, after, page)
			if err != nil {
				yield(bindery.Event{}, err)
				return
			}
			for _, e := range events {
				if after = e.Seq; !yield(e, nil) {
					return
				}
			}
			if len(events) < page {
				return
			}
		}
	}
}

// A statement is in-toto's form for saying something of an image.
type statement struct {
	Type      string     `json:"_type"`
	Subject   []subject  `json:"subject"`
	Predicate provenance `json:"predicate"`
	Kind      string     `json:"predicateType"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// provenance is SLSA's predicate, version 1.
type provenance struct {
	Definition struct {
		Type     string            `json:"buildType"`
		External map[string]any    `json:"externalParameters"`
		Internal map[string]string `json:"internalParameters"`
		From     []material        `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	Run struct {
		Builder struct {
			ID      string            `json:"id"`
			Version map[string]string `json:"version"`
		} `json:"builder"`
		Metadata struct {
			ID      string `json:"invocationId"`
			Started string `json:"startedOn"`
			Ended   string `json:"finishedOn"`
		} `json:"metadata"`
	} `json:"runDetails"`
}

type material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest,omitempty"`
}

// buildProvenance says how a build's image was made: from what, by what, when. What is installed in the image is not
// part of it; that travels with images that are pushed.
func (s *Server) buildProvenance(w http.ResponseWriter, r *http.Request) error {
	c := visitOf(r.Context()).caller
	b, err := s.getBuild(r.Context(), c, r.PathValue("id"))
	if err != nil {
		return err
	}
	if b.Result == nil {
		return bindery.Errorf(bindery.ErrNotFound, bindery.User, "Ask for it when the build has succeeded.", "Build %s has made no image", b.ID)
	}
	p, err := s.planOf(r.Context(), c, b)
	if err != nil {
		return err
	}
	b.Source = s.shownSource(c, b.Source)
	return writeJSON(w, http.StatusOK, s.statementOf(r, b, p))
}

func (s *Server) statementOf(r *http.Request, b bindery.Build, p json.RawMessage) statement {
	const home = "https://github.com/bindery-hub/bindery"
	res := b.Result
	st := statement{Type: "https://in-toto.io/Statement/v1", Kind: "https://slsa.dev/provenance/v1"}
	digest := map[string]string{"binderyImageKey": res.ImageKey}
	if algorithm, hex, ok := strings.Cut(res.Digest, ":"); ok {
		digest[algorithm] = hex
	}
	st.Subject = []subject{{Name: res.Image, Digest: digest}}
	def := &st.Predicate.Definition
	def.Type = home + "/build/v1"
	def.External = map[string]any{"repository": map[string]string{"url": b.Source.URL, "ref": b.Source.Ref, "commit": b.Source.Commit, "subdir": b.Source.Subdir}}
	if p != nil {
		def.External["plan"] = p
	}
	def.Internal = map[string]string{"environmentKey": res.EnvKey, "imageKey": res.ImageKey}
	from := material{URI: b.Source.URL}
	if bindery.IsCommit(b.Source.Commit) {
		from = material{URI: "git+" + b.Source.URL + "@" + b.Source.Commit, Digest: map[string]string{"gitCommit": b.Source.Commit}}
	}
	if def.From = []material{}; from.URI != "" {
		def.From = append(def.From, from)
	}
	run := &st.Predicate.Run
	run.Builder.ID, run.Builder.Version = home, map[string]string{"generation": res.Generation}
	const rfc3339 = "2006-01-02T15:04:05Z"
	run.Metadata.ID = s.hubURL(r) + "/builds/" + b.ID
	run.Metadata.Started, run.Metadata.Ended = b.Started.UTC().Format(rfc3339), b.Ended.UTC().Format(rfc3339)
	return st
}
