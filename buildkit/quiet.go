package buildkit

import (
	"context"
	"io"
	"log/slog"

	"github.com/moby/buildkit/util/bklog"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
)

// quiet gives ctx a logger for BuildKit that writes to ours, at debug level: whatever matters comes back as an error.
func (e *Engine) quiet(ctx context.Context) context.Context {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.WarnLevel)
	l.AddHook(slogHook{e.cfg.Log})
	return bklog.WithLogger(ctx, logrus.NewEntry(l))
}

type slogHook struct{ log *slog.Logger }

// Levels are the ones worth a line.
func (slogHook) Levels() []logrus.Level {
	return []logrus.Level{logrus.ErrorLevel, logrus.WarnLevel, logrus.FatalLevel, logrus.PanicLevel}
}

// Fire writes an entry.
func (h slogHook) Fire(entry *logrus.Entry) error {
	h.log.Debug("buildkit", "level", entry.Level.String(), "text", entry.Message)
	return nil
}

func (e *Engine) quietUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	return next(e.quiet(ctx), req)
}

type quietServerStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context with our logger.
func (s quietServerStream) Context() context.Context { return s.ctx }

func (e *Engine) quietStream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return next(srv, quietServerStream{s, e.quiet(s.Context())})
}

// Quiet sends what BuildKit and containerd log outside any call to log. It changes the process' standard logger, so
// it is for the program that hosts an engine.
func Quiet(log *slog.Logger) {
	l := logrus.StandardLogger()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.WarnLevel)
	l.AddHook(slogHook{log})
}
