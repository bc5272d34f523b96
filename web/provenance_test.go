package web_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/web"
)

// TestPlanAndProvenance asks of a build what its files asked for and how its image was made, while it runs and after.
func TestPlanAndProvenance(t *testing.T) {
	for name, change := range map[string]func(h *hub) func(*web.Config){
		"with a history": operated, "without": func(*hub) func(*web.Config) { return func(*web.Config) {} },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub()
			_, c := dial(t, h, "good", change(h))
			b, err := c.Submit(t.Context(), api.NewBuild{Source: repo})
			if err != nil {
				t.Fatal(err)
			}
			if p, err := c.BuildPlan(t.Context(), b.ID); !errors.Is(err, bindery.ErrNotFound) {
				t.Errorf("before its files were read: %s, %v", p, err)
			}
			h.change(func() {
				h.add(b.ID, bindery.Event{Phase: bindery.PhaseBuilding, Message: "Using python builder\n", Plan: json.RawMessage(`{"pack":"python"}`)})
			})
			if p, err := c.BuildProvenance(t.Context(), b.ID); !errors.Is(err, bindery.ErrNotFound) {
				t.Errorf("before there is an image: %s, %v", p, err)
			}
			h.finish(b.ID)
			p, err := c.BuildPlan(t.Context(), b.ID)
			if err != nil || strings.TrimSpace(string(p)) != `{"pack":"python"}` {
				t.Errorf("the plan: %s, %v", p, err)
			}
			text, err := c.BuildProvenance(t.Context(), b.ID)
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range []string{
				`"_type":"https://in-toto.io/Statement/v1"`, `"predicateType":"https://slsa.dev/provenance/v1"`, `"name":"bindery/abc"`,
				`"gitCommit":"` + commit + `"`, `"uri":"git+https://example.org/o/r@` + commit + `"`, `"plan":{"pack":"python"}`, `/builds/` + b.ID + `"`,
			} {
				if !strings.Contains(string(text), part) {
					t.Errorf("the provenance has no %s:\n%s", part, text)
				}
			}
		})
	}
}
