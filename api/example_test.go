package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// sampleHub answers as a hub does that has one build.
func sampleHub() *httptest.Server {
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	at := time.Date(2026, 3, 24, 12, 0, 0, 0, time.UTC)
	src := bindery.Source{Provider: "git", URL: "https://github.com/binder-examples/requirements", Ref: "HEAD"}
	build := bindery.Build{ID: "b-1", Source: src, Class: bindery.Unattended, State: bindery.BuildQueued, Created: at}
	mux.HandleFunc("POST /api/v1/builds", func(w http.ResponseWriter, _ *http.Request) { say(w, build) })
	mux.HandleFunc("GET /api/v1/builds/b-1/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "id: 1\ndata: {\"seq\":1,\"phase\":\"waiting\",\"message\":\"Waiting for build to start...\\n\"}\n\n")
		fmt.Fprint(w, "id: 2\ndata: {\"seq\":2,\"phase\":\"built\",\"message\":\"Built.\\n\",\"result\":{\"image\":\"bindery/0f3c\"}}\n\n")
	})
	mux.HandleFunc("POST /api/v1/sessions", func(w http.ResponseWriter, _ *http.Request) {
		say(w, api.Session{Session: bindery.Session{ID: "s-1", Build: "b-1", State: bindery.SessionReady, Token: "secret"}, URL: "https://sessions.example.org/user/s-1/"})
	})
	mux.HandleFunc("GET /api/v1/queue", func(w http.ResponseWriter, _ *http.Request) {
		st := bindery.Standing{Position: 1, Reason: "Every slot is taken (2); this build is next"}
		say(w, bindery.Queue{At: at, Slots: 2, Taken: 2, Waiting: []bindery.QueuedBuild{{Build: build, Watchers: 3, Standing: st}}})
	})
	mux.HandleFunc("POST /api/v1/rules", func(w http.ResponseWriter, r *http.Request) {
		var in api.NewRule
		_ = json.NewDecoder(r.Body).Decode(&in)
		say(w, api.Rule{ID: "hold-1", Kind: in.Kind, Pattern: in.Pattern, Scope: "owner", Reason: in.Reason, By: "token:ops"})
	})
	mux.HandleFunc("GET /api/v1/builds/{id}", func(w http.ResponseWriter, r *http.Request) {
		p := api.ProblemOf(bindery.Errorf(bindery.ErrNotFound, bindery.User, "Check its id.", "There is no build %s", r.PathValue("id")), "r1")
		w.Header().Set("Content-Type", api.ProblemType)
		w.WriteHeader(p.Status)
		_ = json.NewEncoder(w).Encode(p)
	})
	return httptest.NewServer(mux)
}

// Build a repository, print its log as it comes, then start a session of it.
func Example() {
	hub := sampleHub() // in place of https://hub.example.org
	defer hub.Close()
	ctx := context.Background()

	client, err := api.NewClient(api.ClientConfig{URL: hub.URL, Token: "a token of its configuration"})
	if err != nil {
		panic(err)
	}
	build, err := client.Submit(ctx, api.NewBuild{Source: bindery.Source{URL: "https://github.com/binder-examples/requirements"}})
	if err != nil {
		panic(err)
	}
	for event, err := range client.Events(ctx, build.ID, 0) { // goes on by itself where a connection broke
		if err != nil {
			panic(err)
		}
		fmt.Print(event.Message)
	}
	session, err := client.Launch(ctx, api.NewSession{Build: build.ID})
	if err != nil {
		panic(err)
	}
	fmt.Println(session.URL)
	// Output:
	// Waiting for build to start...
	// Built.
	// https://sessions.example.org/user/s-1/
}

// See what waits, and why.
func ExampleClient_Queue() {
	hub := sampleHub()
	defer hub.Close()
	client, err := api.NewClient(api.ClientConfig{URL: hub.URL})
	if err != nil {
		panic(err)
	}
	queue, err := client.Queue(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Printf("%d of %d slots\n", queue.Taken, queue.Slots)
	for _, b := range queue.Waiting {
		fmt.Printf("%d. %s, watched by %d: %s\n", b.Standing.Position, b.Source.URL, b.Watchers, b.Standing.Reason)
	}
	// Output:
	// 2 of 2 slots
	// 1. https://github.com/binder-examples/requirements, watched by 3: Every slot is taken (2); this build is next
}

// Let all builds of an owner wait for an hour.
func ExampleClient_AddRule() {
	hub := sampleHub()
	defer hub.Close()
	client, err := api.NewClient(api.ClientConfig{URL: hub.URL, Token: "one with the scope admin"})
	if err != nil {
		panic(err)
	}
	rule, err := client.AddRule(context.Background(), api.NewRule{
		Kind: "hold", Pattern: "gh/jupyterlab/*", Until: time.Now().Add(time.Hour),
		Reason: "their builds fill the disk", Message: "Builds of this owner go on in an hour.",
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(rule.Kind, rule.Pattern, "by", rule.By)
	// Output: hold gh/jupyterlab/* by token:ops
}

// Failures have a kind to test for, words for people, and a remedy.
func ExampleClient_Build() {
	hub := sampleHub()
	defer hub.Close()
	client, err := api.NewClient(api.ClientConfig{URL: hub.URL})
	if err != nil {
		panic(err)
	}
	_, err = client.Build(context.Background(), "b-none")
	fmt.Println(errors.Is(err, bindery.ErrNotFound))
	fmt.Println(bindery.AsError(err).Msg, "-", bindery.AsError(err).Remedy)
	// Output:
	// true
	// There is no build b-none - Check its id.
}
