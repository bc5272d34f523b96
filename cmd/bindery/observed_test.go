package main

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/metrics"
)

// All workers of a hub tell it what they have dropped.
var _, _ dispatch.Dropper = visitorWorker{}, joined{}

// TestDroppedIsSeen has an image that a worker dropped in the archive and in the metrics.
func TestDroppedIsSeen(t *testing.T) {
	dir := t.TempDir()
	archive, err := metrics.NewArchive(metrics.ArchiveConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := metrics.New(metrics.Config{
		Queue: func(context.Context) (bindery.Queue, error) { return bindery.Queue{}, nil },
		Workers: func(context.Context) ([]bindery.WorkerView, error) {
			return []bindery.WorkerView{{WorkerStatus: bindery.WorkerStatus{Name: "vm"}}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	o := &observed{archive: archive, metrics: recorder}
	o.generation(bindery.GenerationEvent{Generation: "g", Event: "removed", Who: "ann"})
	o.generation(bindery.GenerationEvent{Generation: "g", Event: bindery.ImageDropped, Worker: "vm", Reason: "its disk was short of room"})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.run(ended); err != nil { // it writes what it has been given
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "generations-*.jsonl"))
	if len(files) != 1 {
		t.Fatalf("files %q, want one", files)
	}
	text, err := os.ReadFile(files[0])
	if want := `"event":"dropped","worker":"vm","reason":"its disk was short of room"}`; err != nil || !strings.Contains(string(text), want) {
		t.Errorf("%v: no %s in\n%s", err, want, text)
	}
	w := httptest.NewRecorder()
	o.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if want := `bindery_worker_images_dropped_total{worker="vm"} 1` + "\n"; !strings.Contains(w.Body.String(), want) {
		t.Errorf("no %s in the metrics", want)
	}
}
