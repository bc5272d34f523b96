package bindery

import (
	"context"
	"log/slog"
)

type logKey struct{}

// WithLog has every line that is logged with the context carry further attributes, such as the id of the request that
// it is about.
func WithLog(ctx context.Context, attrs ...slog.Attr) context.Context {
	old, _ := ctx.Value(logKey{}).([]slog.Attr)
	return context.WithValue(ctx, logKey{}, append(old[:len(old):len(old)], attrs...))
}

// LogHandler adds what WithLog says to the lines of another handler. What a line says itself wins.
type LogHandler struct{ slog.Handler }

// Handle adds the attributes.
func (h LogHandler) Handle(ctx context.Context, r slog.Record) error {
	attrs, _ := ctx.Value(logKey{}).([]slog.Attr)
	if len(attrs) == 0 {
		return h.Handler.Handle(ctx, r)
	}
	own := map[string]bool{}
	r.Attrs(func(a slog.Attr) bool {
		own[a.Key] = true
		return true
	})
	r = r.Clone()
	for _, a := range attrs {
		if !own[a.Key] {
			r.AddAttrs(a)
		}
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the handler what it is.
func (h LogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return LogHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the handler what it is.
func (h LogHandler) WithGroup(name string) slog.Handler { return LogHandler{h.Handler.WithGroup(name)} }
