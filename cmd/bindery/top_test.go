package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

// An officeCrew is what the office knows of its workers; it changes none.
type officeCrew struct{ others }

type others interface{ web.Workers }

func (officeCrew) Workers(context.Context) ([]bindery.WorkerView, error) {
	return []bindery.WorkerView{
		{WorkerStatus: bindery.WorkerStatus{Name: "w1", Slots: 1, DiskFree: 48 << 30}, State: bindery.WorkerReady, Running: 1, Up: true},
		{WorkerStatus: bindery.WorkerStatus{Name: "w2"}, State: bindery.WorkerRefused, Reason: "its scratch is \x1b[2Jon the disk that the machine starts from"},
	}, nil
}

// topOffice serves the busy office with what has happened there lately.
func topOffice(t *testing.T, at time.Time, scope string) []string {
	t.Helper()
	o := busyOffice(at)
	lines := []string{
		`{"timestamp":%q,"status":"success","provider":"GitHub","repo":"https://github.com/ann/course","request_origin":"https://blog.example","class":"attended","built_seconds":0,"started_seconds":2}`,
		`{"timestamp":%q,"status":"success","provider":"GitHub","repo":"https://github.com/ann/course","request_origin":"","class":"attended","built_seconds":30,"started_seconds":2}`,
		`{"timestamp":%q,"status":"failure","provider":"GitHub","repo":"https://github.com/jupyterlab/jupyterlab-demo","class":"unattended","error":{"kind":"timeout","fault":"transient"}}`,
		`{"timestamp":%q,"status":"failure","provider":"Zenodo","repo":"10.5281/zenodo.1","class":"attended","error":{"kind":"step","fault":"user"}}`,
	}
	s, err := web.New(web.Config{
		Builds: o, Sessions: o, Queue: o, Workers: officeCrew{}, History: archive{o}, Secret: []byte(strings.Repeat("k", 32)), SessionURL: "http://127.0.0.1:1",
		Tokens: []web.Token{{Hash: web.HashToken("t"), Name: "ops"}, {Hash: web.HashToken("r"), Name: "reader", Scope: "read"}},
		Export: func(_ context.Context, kind string, since, until time.Time) (iter.Seq2[[]byte, error], error) {
			if kind != "requests" || until.Sub(since) > topFor {
				return nil, errors.New("not what top asks for")
			}
			return func(yield func([]byte, error) bool) {
				for _, l := range lines {
					if !yield(fmt.Appendf(nil, l, since.Add(time.Second).Format(time.RFC3339Nano)), nil) {
						return
					}
				}
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s.Public())
	t.Cleanup(ts.Close)
	return []string{"--hub", ts.URL, "--token", scope}
}

func TestTop(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 36, 52, 0, time.UTC)
	status, out, complaints := try(t, append([]string{"top"}, topOffice(t, at, "t")...)...)
	if status != exitOK {
		t.Fatal(complaints)
	}
	golden(t, "top.txt", out)
	status, out, _ = try(t, append([]string{"top", "--json", "--by", "class"}, topOffice(t, at, "t")...)...)
	var v topView
	if err := json.Unmarshal([]byte(out), &v); status != exitOK || err != nil || v.Good != 2 || v.Ours != 1 || v.Median != 32 || len(v.Top) != 2 || v.Top[0].Name != "attended" || v.Top[0].Failed != 1 {
		t.Errorf("%d %v %s", status, err, out)
	}
	status, out, _ = try(t, append([]string{"top"}, topOffice(t, at, "r")...)...)
	if status != exitOK || !strings.Contains(out, "told to tokens with the scope admin only") || !strings.Contains(out, "w1") {
		t.Errorf("with a token that may read: %d %s", status, out)
	}
	if status, _, _ = try(t, append([]string{"top", "--every", "1ms"}, topOffice(t, at, "t")...)...); status != exitUsage {
		t.Errorf("too often: %d", status)
	}
}

// TestTopFits draws into a terminal that has less room than there is to say.
func TestTopFits(t *testing.T) {
	v := topView{}
	for i := range 40 {
		v.Workers = append(v.Workers, bindery.WorkerView{WorkerStatus: bindery.WorkerStatus{Name: fmt.Sprint("w", i)}, Reason: strings.Repeat("long ", 40)})
	}
	var out bytes.Buffer
	drawTop(&out, v, nil)
	lines := strings.Split(strings.TrimSuffix(strings.TrimPrefix(out.String(), "\x1b[H"), "\x1b[J"), "\x1b[K\r\n")
	if len(lines) != 24 || !strings.Contains(lines[22], "more lines") {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	for _, l := range lines {
		if columns(l) > 79 {
			t.Errorf("%d columns: %q", columns(l), l)
		}
	}
	out.Reset()
	drawTop(&out, v, errors.New("connection\nrefused"))
	if !strings.Contains(out.String(), "does not answer") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%q", out.String())
	}
}
