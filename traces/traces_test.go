package traces_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	pb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/traces"
)

// A receiver takes OTLP over HTTP, as a collector does.
type receiver struct {
	mu    sync.Mutex
	spans map[string][]*pb.Span // by name
	auth  string
}

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	var in collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(text, &in) != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "not traces", http.StatusBadRequest)
		return
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.auth = r.Header.Get("Authorization")
	for _, rs := range in.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				rc.spans[s.Name] = append(rc.spans[s.Name], s)
			}
		}
	}
}

var at = time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)

func after(s int) time.Time { return at.Add(time.Duration(s) * time.Second) }

// story is a build's second attempt, after a first that lost its worker.
func story(_ context.Context, _ string, seen int64, limit int) ([]bindery.Event, error) {
	step := &bindery.Step{ID: "1", Name: "pip install numpy", Started: after(12), Ended: after(18)}
	all := []bindery.Event{
		{Seq: 1, Time: after(1), Phase: bindery.PhaseFetching}, {Seq: 2, Time: after(2), Phase: bindery.PhaseWaiting},
		{Seq: 3, Time: after(10), Phase: bindery.PhaseFetching}, {Seq: 4, Time: after(11), Phase: bindery.PhaseBuilding},
		{Seq: 5, Time: after(18), Phase: bindery.PhaseBuilding, Step: step}, {Seq: 6, Time: after(20), Phase: bindery.PhaseBuilt, Result: &bindery.BuildResult{}},
	}
	all = all[min(int(seen), len(all)):]
	return all[:min(limit, len(all))], nil
}

// run has traces of what tell says sent, and returns what came.
func run(t *testing.T, tell func(*traces.Traces)) *receiver {
	t.Helper()
	rc := &receiver{spans: map[string][]*pb.Span{}}
	srv := httptest.NewServer(rc)
	defer srv.Close()
	tr, err := traces.New(t.Context(), traces.Config{URL: srv.URL + "/v1/traces", Headers: map[string]string{"Authorization": "Bearer x"}, Events: story})
	if err != nil {
		t.Fatal(err)
	}
	tell(tr)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := tr.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return rc
}

func seconds(s *pb.Span) [2]float64 {
	return [2]float64{time.Unix(0, int64(s.StartTimeUnixNano)).Sub(at).Seconds(), time.Unix(0, int64(s.EndTimeUnixNano)).Sub(at).Seconds()}
}

func TestBuildAndLaunch(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	rc := run(t, func(tr *traces.Traces) {
		tr.Built(bindery.Build{ID: "b-1", State: bindery.BuildSucceeded, Attempt: 2, Created: at, Started: after(10), Ended: after(20)})
		tr.Launched(bindery.LaunchReport{
			Time: after(23), Began: at, Resolved: time.Second, Built: 20 * time.Second, Started: 3 * time.Second, Status: bindery.LaunchSucceeded, Build: "b-1", Session: "s-1",
			Request: "r1", Parent: parent,
		})
		tr.Launched(bindery.LaunchReport{
			Time: after(2), Began: at, Status: bindery.LaunchFailed, Request: "r2", Parent: "nonsense\n", Err: bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "", "There is no such branch"),
		})
	})
	for name, want := range map[string][2]float64{
		"build": {0, 20}, "queue": {0, 10}, "attempt": {10, 20}, "fetching": {10, 11}, "building": {11, 20}, "step": {12, 18}, "resolve": {0, 1}, "image": {1, 20}, "session": {20, 23},
	} {
		if len(rc.spans[name]) != 1 || seconds(rc.spans[name][0]) != want {
			t.Errorf("%s: %v, want one of %v", name, rc.spans[name], want)
		}
	}
	launches := rc.spans["launch"]
	if len(launches) != 2 || rc.auth != "Bearer x" {
		t.Fatalf("%d launches, authorised by %q", len(launches), rc.auth)
	}
	slices.SortFunc(launches, func(a, b *pb.Span) int { return int(b.EndTimeUnixNano/1e9) - int(a.EndTimeUnixNano/1e9) })
	build, well, failed := rc.spans["build"][0], launches[0], launches[1]
	if len(well.Links) != 1 || string(well.Links[0].SpanId) != string(build.SpanId) || string(well.Links[0].TraceId) != string(build.TraceId) {
		t.Errorf("the launch does not link to its build: %v", well)
	}
	if hex := trace(well); hex != parent[3:35] || trace(failed) == hex {
		t.Errorf("the launch is in the trace %s", hex)
	}
	if failed.Status.Code != pb.Status_STATUS_CODE_ERROR || !strings.Contains(failed.Status.Message, "no such branch") || len(failed.Links) != 0 {
		t.Errorf("the failure: %v", failed)
	}
	for name, under := range map[string]*pb.Span{"queue": build, "attempt": build, "building": rc.spans["attempt"][0], "step": rc.spans["building"][0], "session": well} {
		if got := rc.spans[name][0]; string(got.ParentSpanId) != string(under.SpanId) || string(got.TraceId) != string(under.TraceId) {
			t.Errorf("%s is not in %s", name, under.Name)
		}
	}
	ids := map[string]bool{}
	for _, all := range rc.spans {
		for _, s := range all {
			if ids[string(s.SpanId)] {
				t.Errorf("two spans have the id of %s", s.Name)
			}
			ids[string(s.SpanId)] = true
		}
	}
}

func trace(s *pb.Span) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for _, b := range s.TraceId {
		out.WriteByte(digits[b>>4])
		out.WriteByte(digits[b&15])
	}
	return out.String()
}

// TestNobodyListens wants no more of a collector that is not there than a word in the log.
func TestNobodyListens(t *testing.T) {
	tr, err := traces.New(t.Context(), traces.Config{URL: "http://127.0.0.1:1/v1/traces", Events: story})
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		tr.Launched(bindery.LaunchReport{Time: at, Began: at})
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	began := time.Now()
	if err := tr.Run(ctx); err != nil || time.Since(began) > 30*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}
