package bindery_test

import (
	"bytes"
	"log/slog"
	"testing"

	bindery "github.com/bindery-hub/bindery"
)

func TestLogCarriesIDs(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(bindery.LogHandler{Handler: slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})}).With("hub", "h")
	ctx := bindery.WithLog(t.Context(), slog.String("request", "r1"))
	inner := bindery.WithLog(ctx, slog.String("build", "b1"))
	_ = bindery.WithLog(ctx, slog.String("session", "s1")) // must not be seen in the other one
	log.InfoContext(inner, "one")
	log.InfoContext(inner, "two", "request", "mine")
	log.InfoContext(t.Context(), "three")
	const want = "msg=one hub=h request=r1 build=b1\nmsg=two hub=h request=mine build=b1\nmsg=three hub=h\n"
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}
