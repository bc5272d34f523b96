package build

import (
	"context"
	"fmt"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// Imager is an Engine that lists its images: what it has made an environment for need not be made again.
type Imager interface {
	Images(ctx context.Context) ([]bindery.Image, error)
}

// mostQuick bounds a build that takes no slot. Copying even a large repository takes less; an environment whose cache
// was collected in the meantime takes more.
const mostQuick = 30 * time.Second

// quickly solves a job of which nothing but the content is new. It runs nothing of the repository's: what does wants a
// slot.
func (b *Builder) quickly(ctx context.Context, job plan.Job, emit func(bindery.Event)) (plan.Made, error) {
	there, err := b.environment(ctx, job)
	if err != nil {
		return plan.Made{}, err
	}
	if !there {
		return plan.Made{}, notQuick("Its environment has to be built")
	}
	within, cancel := context.WithTimeout(ctx, mostQuick)
	defer cancel()
	made, err := b.cfg.Engine.Solve(within, job, emit)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return made, notQuick("It takes longer than was thought").Because(err)
	}
	return made, err
}

func notQuick(msg string) *bindery.Error {
	return bindery.Errorf(bindery.ErrNotReady, bindery.Transient, "Wait: the build goes on when it has a slot.", "%s", msg)
}

// copies reports whether a job runs nothing after its environment.
func copies(job plan.Job) bool {
	return job.Plan.Pack != plan.PackDockerfile && job.Plan.PostBuild == "" && len(job.Plan.Content) == 0 && job.Appendix == ""
}

// environment reports whether an image was made with the job's environment, and whether copying its content is all
// that is left to do.
func (b *Builder) environment(ctx context.Context, job plan.Job) (bool, error) {
	list, ok := b.cfg.Engine.(Imager)
	if !ok || !copies(job) || len(job.Push) > 0 || job.OCI != "" {
		return false, nil
	}
	images, err := list.Images(ctx)
	if err != nil {
		return false, fmt.Errorf("look for an environment: %w", err)
	}
	return slices.ContainsFunc(images, func(i bindery.Image) bool { return i.EnvKey == job.EnvKey }), nil
}
