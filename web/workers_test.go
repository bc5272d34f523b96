package web_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/web"
)

// A crew is one worker that does as it is told, and what it was told.
type crew struct {
	view bindery.WorkerView
	did  []string
}

func newCrew() *crew {
	c := &crew{}
	c.view.Name, c.view.State, c.view.Problems = "b", bindery.WorkerReady, []bindery.Problem{}
	return c
}

func (c *crew) Workers(context.Context) ([]bindery.WorkerView, error) {
	return []bindery.WorkerView{c.view}, nil
}

func (c *crew) note(name string, words ...any) error {
	if name != c.view.Name {
		return bindery.Errorf(bindery.ErrNotFound, bindery.User, "Look.", "no %s", name)
	}
	c.did = append(c.did, strings.TrimSpace(fmt.Sprintln(words...)))
	return nil
}

func (c *crew) DrainWorker(_ context.Context, name, who, reason string) error {
	c.view.State = bindery.WorkerDrained
	return c.note(name, "drain", who, reason)
}

func (c *crew) ResumeWorker(_ context.Context, name, who, reason string) error {
	c.view.State = bindery.WorkerReady
	return c.note(name, "resume", who, reason)
}

func (c *crew) RemoveWorker(_ context.Context, name, who, reason string, force bool) error {
	return c.note(name, "remove", who, reason, force)
}

func (c *crew) AddWorker(_ context.Context, who string, in api.NewWorker) error {
	return c.note(in.Name, "add", who, in.Socket)
}

func (c *crew) AddJoinToken(_ context.Context, who string, in api.NewJoinToken) (api.JoinToken, error) {
	return api.JoinToken{ID: "t", Token: "secret", Uses: in.Uses}, c.note("b", "token", who, in.Uses, in.For, in.Reason)
}

// TestHealthCountsAllBuilds counts those of workers that have joined, as long as they answer.
func TestHealthCountsAllBuilds(t *testing.T) {
	for up, want := range map[bool]string{true: `"total_pods":5,"build_pods":5`, false: `"total_pods":2,"build_pods":2`} {
		staff := newCrew()
		staff.view.Record.Address, staff.view.Running, staff.view.Up = "unix:/b", 3, up
		ts := serve(t, newHub(), func(c *web.Config) {
			c.Workers = staff
			c.Worker = func(context.Context) (bindery.WorkerStatus, error) {
				return bindery.WorkerStatus{Builds: []bindery.BuildAttempt{{ID: "1"}, {ID: "2"}, {ID: "3", Done: true}}}, nil
			}
		})
		if _, body := ask(t, "GET", ts.URL+"/health", ""); !strings.Contains(body, want) {
			t.Errorf("when b is up: %t, health has no %s: %s", up, want, body)
		}
	}
}

func TestWorkersByTheAPI(t *testing.T) {
	h, staff := newHub(), newCrew()
	ts := serve(t, h, func(c *web.Config) {
		c.Workers, c.Tokens = staff, []web.Token{{Hash: web.HashToken("a"), Name: "ann"}}
	})
	c, err := api.NewClient(api.ClientConfig{URL: ts.URL, Token: "a"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if v, err := c.DrainWorker(ctx, "b", "a new\ndisk"); err != nil || v.State != bindery.WorkerDrained {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := c.ResumeWorker(ctx, "b", ""); err != nil || v.State != bindery.WorkerReady {
		t.Errorf("%+v, %v", v, err)
	}
	if err := c.RemoveWorker(ctx, "b", api.RemoveWorker{Reason: "sold", Force: true}); err != nil {
		t.Error(err)
	}
	if tok, err := c.AddJoinToken(ctx, api.NewJoinToken{Uses: 3, For: time.Minute, Reason: "new\nmachines"}); err != nil || tok.Token != "secret" {
		t.Errorf("%+v, %v", tok, err)
	}
	want := "drain token:ann a new disk|resume token:ann|remove token:ann sold true|token token:ann 3 1m0s new machines"
	if got := strings.Join(staff.did, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, err := range map[string]error{
		"unknown":     second(c.Worker(ctx, "x")),
		"uses":        second(c.AddJoinToken(ctx, api.NewJoinToken{Uses: -1})),
		"life":        second(c.AddJoinToken(ctx, api.NewJoinToken{For: 8 * 24 * time.Hour})),
		"pool":        second(c.AddJoinToken(ctx, api.NewJoinToken{Pool: "-x"})),
		"reason":      second(c.DrainWorker(ctx, "b", strings.Repeat("x", 1001))),
		"not by hand": second(c.AddWorker(ctx, api.NewWorker{Name: "b", Socket: "/run/docker.sock"})),
	} {
		wanted := map[string]bindery.Kind{"unknown": bindery.ErrNotFound, "not by hand": bindery.ErrNotAllowed}[name]
		if wanted == "" {
			wanted = bindery.ErrInvalid
		}
		if !errors.Is(err, wanted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
