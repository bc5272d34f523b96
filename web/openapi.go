package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// An object is a piece of the OpenAPI document.
type object = map[string]any

// describe makes the OpenAPI document from the routes and the Go types that they read and write, so that it cannot fall
// behind them.
func (s *Server) describe() ([]byte, error) {
	d := document{object{}, map[string]reflect.Type{}, map[string]bool{}}
	paths := object{}
	for _, rt := range s.nativeRoutes() {
		at, ok := paths[rt.path].(object)
		if !ok {
			at = object{}
			paths[rt.path] = at
		}
		at[strings.ToLower(rt.method)] = d.operation(rt)
	}
	problem := d.schema(reflect.TypeFor[api.Problem]())
	if len(d.clashes) > 0 {
		return nil, fmt.Errorf("web: two types of the API have one name: %v", slices.Sorted(maps.Keys(d.clashes)))
	}
	return json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Bindery", "version": "1",
			"description": "Builds and sessions of a hub. No GET has an effect. Durations are nanoseconds. Failures are application/problem+json; their kinds are those of docs/errors.md.",
			"license":     object{"name": "See the project's LICENSE", "identifier": "Apache-2.0"},
		},
		"servers": []object{{"url": "/"}},
		"paths":   paths,
		"components": object{
			"schemas":         d.schemas,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "description": "A token of the hub's configuration, with the scope read, launch or admin. A session's own token opens that session."}},
			"responses": object{"Problem": object{
				"description": "What went wrong, whose fault it is, and what to do about it",
				"content":     object{api.ProblemType: object{"schema": problem}},
			}},
		},
	}, "", "  ")
}

type document struct {
	schemas object
	types   map[string]reflect.Type // by the name of their schema
	clashes map[string]bool         // names of two types
}

var pathParamRE = regexp.MustCompile(`\{([a-z]+)\}`)

func (d document) operation(rt route) object {
	op := object{"operationId": rt.id, "summary": rt.summary, "responses": object{"200": d.answer(rt), "default": object{"$ref": "#/components/responses/Problem"}}}
	var params []object
	for _, m := range pathParamRE.FindAllStringSubmatch(rt.path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range rt.query {
		schema := object{"type": q.kind}
		if q.kind == "integer" {
			schema["minimum"] = 1
		}
		if q.most > 0 {
			schema["maximum"] = q.most
		}
		params = append(params, object{"name": q.name, "in": "query", "description": q.about, "schema": schema})
	}
	if rt.method == http.MethodPost {
		params = append(params, object{"name": api.IdempotencyKey, "in": "header", "description": "The same again is answered as before, without doing it again",
			"schema": object{"type": "string", "minLength": 1, "maxLength": longestKey, "pattern": "^[!-~]+$"}})
	}
	if rt.media == "text/event-stream" {
		params = append(params, object{"name": "Last-Event-ID", "in": "header", "description": "number of the last event seen; what is no number means the start", "schema": object{"type": "string"}})
	}
	if params != nil {
		op["parameters"] = params
	}
	if rt.in != nil {
		op["requestBody"] = object{"required": !rt.optional, "content": object{"application/json": object{"schema": d.schema(typeOf(rt.in))}}}
	}
	switch {
	case rt.scope != "":
		op["security"] = []object{{"token": []string{}}}
		op["x-scope"] = rt.scope
	case strings.HasPrefix(rt.path, "/api/v1/sessions"), rt.path == "/api/v1/queue":
		op["security"] = []object{{"token": []string{}}, {}}
	default:
		op["security"] = []object{}
	}
	return op
}

func (d document) answer(rt route) object {
	schema := object{"type": "object"}
	media := rt.media
	switch {
	case rt.out != nil:
		schema = d.schema(typeOf(rt.out))
	case media != "":
		schema = object{"type": "string"}
	}
	about := "Done"
	if media == "text/event-stream" {
		about = "Each event's id is its number. Those of type standing have none and say where the build stands; the last one is of type end"
		schema = object{"type": "object", "properties": object{
			"id": object{"type": "string"}, "event": object{"type": "string", "enum": []string{"message", api.StandingEvent, api.EndOfStream}},
			"data": object{"type": "string", "contentMediaType": "application/json", "contentSchema": object{"anyOf": []object{schema, d.schema(reflect.TypeFor[bindery.Standing]()), {"type": "object", "maxProperties": 0}}}},
		}}
	}
	if media == "" {
		media = "application/json"
	}
	return object{"description": about, "content": object{media: object{"schema": schema}}}
}

// schema describes t as encoding/json writes it. Structs are named and written down once.
func (d document) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[time.Duration]():
		return object{"type": "integer", "format": "int64", "description": "nanoseconds"}
	case reflect.TypeFor[json.RawMessage]():
		return object{"type": "object"}
	}
	if values := enumOf(t); values != nil {
		return object{"type": "string", "enum": values}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Int32:
		return object{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string"}
		}
		// A list that Go has not filled in is null.
		return object{"type": []string{"array", "null"}, "items": d.schema(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return object{"type": "object"}
		}
		return object{"type": []string{"object", "null"}, "additionalProperties": d.schema(t.Elem())}
	case reflect.Struct:
		return d.named(t)
	}
	return object{}
}

// schemaNames are of those types that share their name with another.
var schemaNames = map[reflect.Type]string{
	reflect.TypeFor[api.Session]():     "LaunchedSession",
	reflect.TypeFor[api.Rule]():        "StandingRule",
	reflect.TypeFor[bindery.Problem](): "PreflightProblem",
}

func (d document) named(t reflect.Type) object {
	name := cmp.Or(schemaNames[t], t.Name())
	if other, ok := d.types[name]; ok && other != t {
		d.clashes[name] = true
	}
	d.types[name] = t
	ref := object{"$ref": "#/components/schemas/" + name}
	if d.schemas[name] != nil {
		return ref
	}
	props, required := object{}, []string{}
	def := object{"type": "object", "properties": props}
	d.schemas[name] = def // before its fields, which may be of its own type
	d.fields(t, props, &required)
	if len(required) > 0 {
		slices.Sort(required)
		def["required"] = required
	}
	if isAsked(t) {
		def["additionalProperties"] = false // a field that nobody reads is a mistake that its sender should hear of
	}
	return ref
}

func (d document) fields(t reflect.Type, props object, required *[]string) {
	for f := range t.Fields() {
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			d.fields(f.Type, props, required)
			continue
		}
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		props[name] = d.schema(f.Type)
		// What may be left out of an answer may be left out of a request, and the other way round: see needed.
		if !strings.Contains(rest, "omit") && needed(t, name) {
			*required = append(*required, name)
		} else if isAsked(t) {
			props[name] = object{"anyOf": []object{d.schema(f.Type), {"type": "null"}}} // Go reads null as nothing
		}
	}
}

// isAsked reports whether t is a part of requests. Answers may gain fields.
func isAsked(t reflect.Type) bool {
	return slices.Contains([]reflect.Type{
		reflect.TypeFor[api.NewBuild](), reflect.TypeFor[api.NewSession](), reflect.TypeFor[api.NewRule](), reflect.TypeFor[bindery.Source](),
		reflect.TypeFor[api.CancelBuild](), reflect.TypeFor[api.RetryBuild](), reflect.TypeFor[api.ForgiveBuild](), reflect.TypeFor[api.StopSession](), reflect.TypeFor[api.LiftRule](),
		reflect.TypeFor[api.NewWorker](), reflect.TypeFor[api.ChangeWorker](), reflect.TypeFor[api.RemoveWorker](), reflect.TypeFor[api.NewJoinToken](),
		reflect.TypeFor[api.StartRollout](), reflect.TypeFor[api.ChangeRollout](), reflect.TypeFor[api.InvalidateImages](), reflect.TypeFor[api.PruneImages](), reflect.TypeFor[api.RemoveImage](),
		reflect.TypeFor[bindery.Retention](), // RolloutOptions are a part of answers as well
	}, t)
}

// needed reports whether a field must be there. Of a request's, few must.
func needed(t reflect.Type, field string) bool {
	switch t {
	case reflect.TypeFor[bindery.Source]():
		return field == "url"
	case reflect.TypeFor[api.NewRule]():
		return field == "kind" || field == "pattern" || field == "reason"
	case reflect.TypeFor[api.NewWorker]():
		return field == "name" || field == "socket"
	}
	return true
}

// enumOf lists the values of the domain's named strings.
func enumOf(t reflect.Type) []string {
	texts := func(all ...any) (out []string) {
		for _, v := range all {
			out = append(out, reflect.ValueOf(v).String())
		}
		return out
	}
	switch t {
	case reflect.TypeFor[bindery.Class]():
		return texts(bindery.Attended, bindery.Unattended, bindery.Background)
	case reflect.TypeFor[bindery.Fault]():
		return texts(bindery.User, bindery.Transient, bindery.Ours)
	case reflect.TypeFor[bindery.WorkerState]():
		return texts(bindery.WorkerReady, bindery.WorkerRefused, bindery.WorkerFull, bindery.WorkerDrained, bindery.WorkerAway)
	case reflect.TypeFor[bindery.Phase]():
		return texts(bindery.PhaseWaiting, bindery.PhaseFetching, bindery.PhaseBuilding, bindery.PhasePushing, bindery.PhaseBuilt, bindery.PhaseLaunching, bindery.PhaseReady, bindery.PhaseFailed)
	}
	return nil
}

// getDocument serves the OpenAPI document. It is the same for everybody.
func (s *Server) getDocument(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Access-Control-Allow-Origin", "*")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(s.openapi) // a client that has gone is not our error
	return nil
}
