package rollout_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/rollout"
)

// TestPlan compares a plan of 102 images with what was reckoned by hand. Begin is a Wednesday; at weekends other images are
// asked for than on weekdays.
func TestPlan(t *testing.T) {
	f := rollout.Facts{Now: begin, Window: 14 * 24 * time.Hour, Slots: 5, Idle: 1, Busy: 2, Options: bindery.RolloutOptions{Since: -1}}
	for range 101 {
		f.Images = append(f.Images, rollout.Candidate{Cost: 10 * time.Minute})
	}
	f.Images = append(f.Images, rollout.Candidate{Cost: time.Hour, Skip: true})
	launch := func(day int, after time.Duration, images ...int) {
		for _, i := range images {
			f.Images[i].Launches++
			f.Launches = append(f.Launches, rollout.Launched{Image: i, At: begin.AddDate(0, 0, -day).Add(after)})
		}
	}
	for day := 9; day >= 1; day-- {
		if day == 3 || day == 4 { // of the weekend
			launch(day, time.Minute, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59)
			continue
		}
		launch(day, time.Minute, 0, 1, 0) // what is asked for twice is built once
		launch(day, 2*time.Hour, 1, 2)
		launch(day, 20*time.Hour, 3, 4, 5)
	}
	p := rollout.Plan(f)
	if p.Images != 102 || p.Rolled != 101 || p.Skipped != 1 || p.Launches != 76 || p.Background != 2 || p.Build != 10*time.Minute || len(p.Notes) != 0 {
		t.Errorf("%+v", p)
	}
	demand := []bindery.Demand{{Within: time.Hour, Builds: 2, Days: 7}, {Within: 6 * time.Hour, Builds: 3, Days: 7}, {Within: 24 * time.Hour, Builds: 6, Days: 7}}
	if d := cmp.Diff(demand, p.Demand); d != "" {
		t.Errorf("demand (-want +got):\n%s", d)
	}
	// Two at a time: they begin five minutes apart.
	covered := []bindery.Coverage{{Top: 100, Share: 1, Takes: 505 * time.Minute}, {Top: 101, Share: 1, Takes: 510 * time.Minute}}
	if d := cmp.Diff(covered, p.Covered); d != "" {
		t.Errorf("covered (-want +got):\n%s", d)
	}

	// On Saturday: two days of a weekend were before it. One day alone counts, whatever it is, and the plan says that it is one.
	f.Now = begin.AddDate(0, 0, 3)
	if got := rollout.Demand(f, time.Hour); got.Days != 2 || got.Builds != 10 {
		t.Errorf("at a weekend: %+v", got)
	}
	f.Now, f.Launches = begin, slices.DeleteFunc(f.Launches, func(l rollout.Launched) bool { return l.At.Before(begin.AddDate(0, 0, -1)) })
	if p := rollout.Plan(f); p.Demand[0].Days != 1 || p.Demand[0].Builds != 2 || len(p.Notes) != 1 {
		t.Errorf("of one day: %+v", p)
	}
}

// TestPlanCovers has a launch in two go to the image that is wanted most, and the rest spread over many.
func TestPlanCovers(t *testing.T) {
	f := rollout.Facts{Now: begin, Slots: 3, Idle: 1}
	for i := range 1200 {
		f.Images = append(f.Images, rollout.Candidate{Launches: 1, Cost: time.Minute})
		if i == 700 { // wherever it is listed
			f.Images[i].Launches = 1199
		}
	}
	p := rollout.Plan(f)
	for i, want := range []bindery.Coverage{{Top: 100, Share: 1298.0 / 2398}, {Top: 1000, Share: 2198.0 / 2398}, {Top: 1200, Share: 1}} {
		if got := p.Covered[i]; got.Top != want.Top || got.Share != want.Share || got.Takes <= 0 || i > 0 && got.Takes <= p.Covered[i-1].Takes {
			t.Errorf("covered: %+v, want %+v", got, want)
		}
	}
	if p.Takes != 601*time.Minute-30*time.Second || p.Takes != p.Covered[2].Takes {
		t.Errorf("takes %s", p.Takes)
	}
	f.Busy = 2
	if p := rollout.Plan(f); p.Background != 0 || p.Takes != 0 || len(p.Notes) != 2 {
		t.Errorf("without an idle slot: %+v", p)
	}
}
