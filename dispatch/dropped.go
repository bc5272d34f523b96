package dispatch

import (
	"context"
	"errors"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Dropper is a Worker that removes images by itself when its disk is short of room, and tells of each until it is told
// that this is known. *worker.Client is one.
type Dropper interface {
	Dropped(ctx context.Context) ([]bindery.Dropped, error)
	ForgetDropped(ctx context.Context, last int64) error
}

// noteDropped writes down which images a worker has dropped: their next visitors wait for a build. That they are gone is
// found then, by whoever launches one, for it may be there again, or at another worker.
func (d *Dispatcher) noteDropped(ctx context.Context, m *member) {
	k, ok := m.conn.(Dropper)
	if !ok {
		return
	}
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	list, err := k.Dropped(within)
	if err == nil && len(list) > 0 {
		if err = d.writeDropped(within, m, list); err == nil {
			err = k.ForgetDropped(within, m.dropped.Number)
		}
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, bindery.ErrNotFound) { // one of an older version keeps no note
		d.cfg.Log.WarnContext(ctx, "the images that a worker dropped are not noted; it is asked again", "error", err)
	}
}

// writeDropped notes what of a list is not noted yet.
func (d *Dispatcher) writeDropped(ctx context.Context, m *member, list []bindery.Dropped) error {
	images, err := d.images(ctx, d.now())
	if err != nil {
		return err
	}
	made := map[string]string{} // generations, by image
	for _, r := range images {
		made[r.Image] = r.Generation
	}
	err = d.do(ctx, func(t *turn) {
		worker := m.name()
		for _, x := range list {
			if x.Number <= m.dropped.Number && !x.Time.After(m.dropped.Time) {
				continue
			}
			t.note("worker "+worker, "drop image", x.Image+" of "+x.Source.Identity(), x.Why())
			t.tellGeneration(bindery.GenerationEvent{Generation: made[x.Image], Event: bindery.ImageDropped, Source: x.Source, Worker: worker, Reason: x.Why()})
		}
	})
	if err == nil {
		m.dropped = list[len(list)-1]
	}
	return err
}
