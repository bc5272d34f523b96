package api

import (
	"context"
	"net/url"
	"strconv"

	bindery "github.com/bindery-hub/bindery"
)

// Next names the generation that a hub is set to build by, in the place of a generation's name: the one to plan and to
// start. In all else it names the one that is being rolled out, or the current one.
const Next = "next"

// StartRollout asks for a roll-out.
type StartRollout struct {
	Options bindery.RolloutOptions `json:"options,omitzero"`
	Reason  string                 `json:"reason,omitempty"` // the audit log keeps it
}

// ChangeRollout says why a roll-out is paused, resumed or rolled back.
type ChangeRollout struct {
	Reason string `json:"reason,omitempty"`
}

// InvalidateImages asks for images to be built anew in idle slots while they serve, or with force by whoever asks for them next.
type InvalidateImages struct {
	Selector string `json:"selector"` // see bindery.ParseSelector
	Force    bool   `json:"force,omitempty"`
	DryRun   bool   `json:"dry_run,omitempty"` // say what it costs, and do nothing
	Reason   string `json:"reason,omitempty"`
}

// PruneImages asks for the removal of what a rule of retention does not keep. What the rule leaves out is as the hub is set.
type PruneImages struct {
	Rule   bindery.Retention `json:"rule,omitzero"`
	DryRun bool              `json:"dry_run,omitempty"`
	Reason string            `json:"reason,omitempty"`
}

// RemoveImage says why an image is removed.
type RemoveImage struct {
	Reason string `json:"reason,omitempty"`
}

func generationPath(name, verb string) string {
	if name == "" {
		name = Next
	}
	return "/api/v1/generations/" + url.PathEscape(name) + verb
}

// Generations lists the generations, the newest first.
func (c *Client) Generations(ctx context.Context) ([]bindery.RolloutStatus, error) {
	var out []bindery.RolloutStatus
	return out, c.call(ctx, "GET", "/api/v1/generations", nil, &out)
}

// Generation says how one stands; an empty name means the one that rolls out, else the current one.
func (c *Client) Generation(ctx context.Context, name string) (bindery.RolloutStatus, error) {
	var out bindery.RolloutStatus
	return out, c.call(ctx, "GET", generationPath(name, ""), nil, &out)
}

// PlanRollout says what a roll-out with those options would cost; an empty name means the generation that the hub is set
// to build by, 0 slots those that there are.
func (c *Client) PlanRollout(ctx context.Context, name string, opt bindery.RolloutOptions, slots int) (bindery.RolloutPlan, error) {
	var out bindery.RolloutPlan
	q := url.Values{}
	for name, n := range map[string]int{"slots": slots, "pace": opt.Pace, "at_once": opt.AtOnce} {
		if n != 0 {
			q.Set(name, strconv.Itoa(n))
		}
	}
	if opt.Canary != 0 {
		q.Set("canary", strconv.FormatFloat(opt.Canary, 'g', -1, 64))
	}
	if opt.Since != 0 {
		q.Set("since", opt.Since.String())
	}
	path := generationPath(name, "/plan")
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return out, c.call(ctx, "GET", path, nil, &out)
}

// StartRollout starts a roll-out and says how it stands.
func (c *Client) StartRollout(ctx context.Context, name string, in StartRollout) (bindery.RolloutStatus, error) {
	var out bindery.RolloutStatus
	return out, c.call(ctx, "POST", generationPath(name, "/start"), in, &out)
}

// ChangeRollout pauses, resumes or rolls back: verb is "pause", "resume" or "rollback".
func (c *Client) ChangeRollout(ctx context.Context, name, verb, reason string) (bindery.RolloutStatus, error) {
	var out bindery.RolloutStatus
	return out, c.call(ctx, "POST", generationPath(name, "/"+verb), ChangeRollout{Reason: reason}, &out)
}

// Invalidate has images replaced, or says what that costs.
func (c *Client) Invalidate(ctx context.Context, in InvalidateImages) (bindery.Invalidation, error) {
	var out bindery.Invalidation
	return out, c.call(ctx, "POST", "/api/v1/images/invalidate", in, &out)
}

// Images lists images, the most popular first, and where the disk went; at most limit, 1000 when it is 0.
func (c *Client) Images(ctx context.Context, limit int) (bindery.Library, error) {
	var out bindery.Library
	path := "/api/v1/images"
	if limit > 0 {
		path += "?limit=" + strconv.Itoa(limit)
	}
	return out, c.call(ctx, "GET", path, nil, &out)
}

// RemoveImage removes an image by its name.
func (c *Client) RemoveImage(ctx context.Context, name, reason string) error {
	return c.call(ctx, "DELETE", "/api/v1/images/"+url.PathEscape(shortImage(name)), RemoveImage{Reason: reason}, nil)
}

// shortImage is an image's name without what all have.
func shortImage(name string) string {
	const all = "bindery/"
	if len(name) > len(all) && name[:len(all)] == all {
		return name[len(all):]
	}
	return name
}

// PruneImages removes what a rule of retention does not keep, or says what that is.
func (c *Client) PruneImages(ctx context.Context, in PruneImages) (bindery.Pruned, error) {
	var out bindery.Pruned
	return out, c.call(ctx, "POST", "/api/v1/images/prune", in, &out)
}
