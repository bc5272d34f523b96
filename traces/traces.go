// Package traces tells an OpenTelemetry collector what happened, as spans.
package traces

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	bindery "github.com/bindery-hub/bindery"
)

// Config configures Traces.
type Config struct {
	URL     string            // of the collector, OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; required
	Headers map[string]string // of each request to it
	Version string            // of this program
	// Events returns at most limit events of a build that follow number after; required.
	Events func(ctx context.Context, build string, after int64, limit int) ([]bindery.Event, error)
	Log    *slog.Logger // default: discard
}

// Traces makes spans of what has ended, with the times at which it happened: nothing is slower for being traced. A build
// is one trace, its waiting and its steps are in it; each launch is one, and links to the build that it waited for.
type Traces struct {
	cfg      Config
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	queue    chan any // bindery.Build or bindery.LaunchReport
}

// New makes Traces; Run sends them.
func New(ctx context.Context, cfg Config) (*Traces, error) {
	if cfg.URL == "" || cfg.Events == nil {
		return nil, errors.New("traces: Config needs URL and Events")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	out, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(cfg.URL), otlptracehttp.WithHeaders(cfg.Headers), otlptracehttp.WithTimeout(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	about := resource.NewSchemaless(attribute.String("service.name", "bindery"), attribute.String("service.version", cfg.Version))
	p := sdk.NewTracerProvider(sdk.WithBatcher(logged{out, cfg.Log}), sdk.WithResource(about), sdk.WithIDGenerator(named{}), sdk.WithSampler(sdk.AlwaysSample()))
	return &Traces{cfg: cfg, provider: p, tracer: p.Tracer("github.com/bindery-hub/bindery"), queue: make(chan any, 4096)}, nil
}

// logged says that a collector does not answer where the hub says such things.
type logged struct {
	sdk.SpanExporter
	log *slog.Logger
}

func (l logged) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := l.SpanExporter.ExportSpans(ctx, spans); err != nil {
		l.log.WarnContext(ctx, "traces cannot be sent", "spans", len(spans), "err", err)
	}
	return nil
}

// Built takes a build that has ended. It does not wait: when thousands are behind, one is lost.
func (t *Traces) Built(b bindery.Build) { t.put(b) }

// Launched takes the report of a launch, likewise.
func (t *Traces) Launched(rep bindery.LaunchReport) { t.put(rep) }

func (t *Traces) put(x any) {
	select {
	case t.queue <- x:
	default:
		t.cfg.Log.Warn("traces are behind; one is lost")
	}
}

// Run makes spans until ctx ends, and sends what there is then.
func (t *Traces) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case x := <-t.queue:
			t.make(ctx, x)
		case <-ctx.Done():
		}
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for len(t.queue) > 0 && end.Err() == nil {
		t.make(end, <-t.queue)
	}
	if err := t.provider.Shutdown(end); err != nil {
		t.cfg.Log.WarnContext(ctx, "the last traces cannot be sent", "err", err)
	}
	return nil
}

func (t *Traces) make(ctx context.Context, x any) {
	switch x := x.(type) {
	case bindery.Build:
		t.build(ctx, x)
	case bindery.LaunchReport:
		t.launch(ctx, x)
	}
}

// span is one that has ended.
func (t *Traces) span(ctx context.Context, name string, from, to time.Time, e *bindery.Error, opts ...trace.SpanStartOption) context.Context {
	if to.Before(from) {
		to = from
	}
	ctx, s := t.tracer.Start(ctx, name, append(opts, trace.WithTimestamp(from))...)
	if e != nil {
		s.SetAttributes(attribute.String("error.type", string(e.Kind)), attribute.String("bindery.fault", string(e.Fault)))
		s.SetStatus(codes.Error, e.Msg)
	}
	s.End(trace.WithTimestamp(to))
	return ctx
}

func (t *Traces) launch(ctx context.Context, rep bindery.LaunchReport) {
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": rep.Parent})
	ctx = withNames(ctx, "request "+rep.Request)
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("bindery.request", rep.Request), attribute.String("bindery.build", rep.Build), attribute.String("bindery.session", rep.Session),
		attribute.String("bindery.status", rep.Status), attribute.String("bindery.class", string(rep.Class)), attribute.Bool("bindery.cached", rep.Cached),
		attribute.String("bindery.repository", bindery.Printable(rep.Repo)),
	)}
	if rep.Build != "" {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: spanOf("build " + rep.Build)}))
	}
	inside := t.span(ctx, "launch", rep.Began, rep.Time, rep.Err, opts...)
	if rep.Resolved > 0 {
		t.span(inside, "resolve", rep.Began, rep.Began.Add(rep.Resolved), nil)
	}
	if rep.Built > rep.Resolved {
		t.span(inside, "image", rep.Began.Add(rep.Resolved), rep.Began.Add(rep.Built), nil)
	}
	if rep.Started > 0 {
		t.span(inside, "session", rep.Time.Add(-rep.Started), rep.Time, rep.Err)
	}
}

func (t *Traces) build(ctx context.Context, b bindery.Build) {
	inside := t.span(withNames(ctx, "build "+b.ID), "build", b.Created, b.Ended, b.Err, trace.WithAttributes(
		attribute.String("bindery.build", b.ID), attribute.String("bindery.class", string(b.Class)), attribute.String("bindery.state", string(b.State)),
		attribute.Int("bindery.attempts", b.Attempt), attribute.String("bindery.worker", b.Worker), attribute.String("bindery.repository", bindery.Printable(b.Source.URL)),
		attribute.String("bindery.commit", b.Source.Commit),
	))
	began := b.Started
	if began.IsZero() { // it never started
		t.span(inside, "queue", b.Created, b.Ended, nil)
		return
	}
	t.span(inside, "queue", b.Created, began, nil)
	attempt := t.span(inside, "attempt", began, b.Ended, b.Err, trace.WithAttributes(attribute.Int("bindery.attempt", b.Attempt)))
	for _, p := range t.phases(ctx, b) {
		within := t.span(attempt, p.name, p.from, p.to, nil)
		for _, s := range p.steps {
			t.span(within, "step", s.Started, s.Ended, nil, trace.WithAttributes(
				attribute.String("bindery.step", bindery.Printable(s.Name)), attribute.Bool("bindery.cached", s.Cached), attribute.Bool("bindery.failed", s.Failed)))
		}
	}
}

// A phase is a part of an attempt, with the steps that began in it.
type phase struct {
	name     string
	from, to time.Time
	steps    []bindery.Step
}

// Of a build so much is read and told.
const (
	mostEvents = 100_000
	mostSteps  = 500
)

// phases reads the story of a build's last attempt.
func (t *Traces) phases(ctx context.Context, b bindery.Build) (all []phase) {
	const page = 1000
	steps := 0
	for after := int64(0); after < mostEvents; {
		events, err := t.cfg.Events(ctx, b.ID, after, page)
		if err != nil {
			t.cfg.Log.WarnContext(ctx, "the events of a build cannot be traced", "build", b.ID, "err", err)
			return all
		}
		for _, e := range events {
			after = e.Seq
			if e.Time.Before(b.Started) || e.Phase == bindery.PhaseWaiting {
				continue // of an earlier attempt
			}
			last := len(all) - 1
			if last >= 0 {
				all[last].to = e.Time
			}
			if !e.Last() && (last < 0 || all[last].name != string(e.Phase)) {
				all = append(all, phase{name: string(e.Phase), from: e.Time, to: e.Time})
				last++
			}
			if s := e.Step; s != nil && last >= 0 && !s.Started.IsZero() && !s.Ended.IsZero() && s.Name != "" && steps < mostSteps {
				all[last].steps = append(all[last].steps, *s)
				steps++
			}
		}
		if len(events) < page {
			break
		}
	}
	return all
}

// named gives a span whose context names it the ids of that name, so that others can link to it before or after it is
// sent; the rest have ids by chance.
type named struct{}

type nameKey struct{}

// withNames names the next span, and the trace that it begins.
func withNames(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, nameKey{}, &name)
}

// take is the name of a span, which only one has: its children are made in its context too.
func take(ctx context.Context) string {
	p, _ := ctx.Value(nameKey{}).(*string)
	if p == nil || *p == "" {
		return ""
	}
	name := *p
	*p = ""
	return name
}

// NewIDs are those of a trace's first span.
func (named) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	s := spanOf(cmp.Or(take(ctx), rand.Text()))
	return s.TraceID(), s.SpanID()
}

// NewSpanID is that of a span in a trace.
func (named) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	return spanOf(cmp.Or(take(ctx), rand.Text())).SpanID()
}

// spanOf are the ids of a name.
func spanOf(name string) trace.SpanContext {
	sum := sha256.Sum256([]byte(name))
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(sum[:16]), SpanID: trace.SpanID(sum[16:24]), TraceFlags: trace.FlagsSampled, Remote: true})
}
