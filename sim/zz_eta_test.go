package sim
import ("testing";"time";"fmt";"os";"slices";"context";"math")
func TestEtaProbe(t *testing.T) {
	var all []eta
	for _, day := range []string{"2019-02-24","2019-03-03","2019-03-10","2019-03-17"} {
		from, _ := time.Parse("2006-01-02T15:04", day+"T08:00")
		for _, c := range []struct{slots int; wipe bool}{{2,false},{8,true}} {
			w, err := ReadTrace(os.DirFS("/work/shared/traces/launches"), from, 7*24*time.Hour)
			if err != nil { t.Fatal(err) }
			cfg := Config{Workload: w, Policies: []string{Fair}, Seed: 1, Slots: c.slots}
			if c.wipe { cfg.Wipe = from }
			cfg, _ = cfg.withDefaults()
			began := time.Now()
			r, err := simulate(context.Background(), cfg, Fair)
			if err != nil { t.Fatal(err) }
			show(fmt.Sprint(day, c, time.Since(began).Round(time.Millisecond)), r.meter.etas)
			all = append(all, r.meter.etas...)
		}
	}
	show("all", all)
}
func show(name string, es []eta) {
	in, lo, hi := 0,0,0
	var waits, abs []float64
	for _, x := range es {
		if x.start < x.from-time.Second { lo++ } else if x.start > x.to+time.Second { hi++ } else { in++ }
		waits = append(waits, (x.start-x.said).Seconds())
		abs = append(abs, math.Abs((x.likely-x.start).Seconds()))
	}
	fmt.Printf("%-40s n %5d in %.3f early %.3f late %.3f", name, len(es), float64(in)/float64(len(es)), float64(lo)/float64(len(es)), float64(hi)/float64(len(es)))
	for _, f := range []float64{1,60,120,300} {
		var e []float64
		for i := range waits { e = append(e, abs[i]/max(waits[i], f)) }
		slices.Sort(e)
		fmt.Printf(" f%.0f %.2f", f, e[len(e)/2])
	}
	slices.Sort(waits); slices.Sort(abs)
	fmt.Printf(" wait p50 %.0f abs p50 %.0f\n", waits[len(waits)/2], abs[len(abs)/2])
}
