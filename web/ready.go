package web

import (
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// A readyEvent ends a stream that went well.
type readyEvent struct {
	Phase             bindery.Phase `json:"phase"`
	Message           string        `json:"message"`
	Image             string        `json:"image"`
	RepoURL           string        `json:"repo_url"`
	Token             string        `json:"token"`
	RefURL            string        `json:"binder_ref_url"`
	LaunchHost        string        `json:"binder_launch_host"`
	Request           string        `json:"binder_request"`
	PersistentRequest string        `json:"binder_persistent_request"`
	ClientIP          string        `json:"binder_client_ip"`
	URL               string        `json:"url"`
}

// ready says where a session is, and by which link it was launched.
func (wa *watch) ready(b bindery.Build, sess bindery.Session) readyEvent {
	src, at := wa.named(b), wa.s.sessionURL(wa.r, sess)
	return readyEvent{
		Phase: bindery.PhaseReady, Message: "server running at " + at + "\n", Image: wa.image(b), Token: sess.Token, URL: at,
		RepoURL: wa.provider.RepoURL(src), RefURL: wa.provider.RefURL(src), LaunchHost: wa.s.launchHost(wa.r),
		Request:           "v2/" + strings.TrimRight(wa.spec.String(), "/"),
		PersistentRequest: "v2/" + wa.provider.ID + "/" + wa.provider.Spec(src),
		ClientIP:          visitOf(wa.r.Context()).caller.IP,
	}
}

// told is what programs in the session are told of the link, by BinderHub's names.
func (wa *watch) told(b bindery.Build) []string {
	r := wa.ready(b, bindery.Session{})
	return []string{
		"BINDER_REPO_URL=" + r.RepoURL, "BINDER_REF_URL=" + r.RefURL, "BINDER_LAUNCH_HOST=" + r.LaunchHost,
		"BINDER_REQUEST=" + r.Request, "BINDER_PERSISTENT_REQUEST=" + r.PersistentRequest, "BINDER_CLIENT_IP=" + r.ClientIP,
	}
}

// readyImage ends a stream that wanted an image only.
func (wa *watch) readyImage() event {
	return event{Phase: bindery.PhaseReady, Message: "The image is built; nothing was asked to be launched\n", ImageName: wa.image(wa.build)}
}

// image is the name that BinderHub would have given the image: what clients show and tools read. The hub itself finds
// images by what is in them.
func (wa *watch) image(b bindery.Build) string {
	src := wa.named(b)
	return bindery.RegistryName(wa.s.cfg.ImagePrefix, wa.provider.Slug(src), src.Commit)
}
