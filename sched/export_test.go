package sched

import (
	"fmt"
	"go/token"
	"reflect"
	"slices"
)

// kept are the fields that a Whole does without: what was found out and can be found out again, and what is there during a
// step only.
var kept = []string{
	"Scheduler.view", "Scheduler.hall", "Scheduler.out", "Scheduler.fresh", "Scheduler.leaving", "Scheduler.origin", "Scheduler.ahead",
	"build.seen", "broad.tried", "broad.match", "bucket.pairs", "pair.named",
}

// Unlike compares everything that two schedulers know, whatever it is, and says where they differ. It notes in seen each
// field that is not zero in the first one.
func Unlike(a, b *Scheduler, seen map[string]bool) string {
	c := comparison{seen: seen, met: map[[2]uintptr]bool{}}
	return c.unlike("Scheduler", reflect.ValueOf(a), reflect.ValueOf(b))
}

// Fields are those that there are, of all types that a scheduler is made of. Types that others know are written down as they
// are.
func Fields() (all []string) {
	met := map[reflect.Type]bool{}
	var look func(t reflect.Type)
	look = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			look(t.Elem())
		case reflect.Struct:
			if met[t] || !ours(t) || token.IsExported(t.Name()) && t != reflect.TypeFor[Scheduler]() {
				return
			}
			met[t] = true
			for i := range t.NumField() {
				if name := t.Name() + "." + t.Field(i).Name; !slices.Contains(kept, name) {
					all = append(all, name)
					look(t.Field(i).Type)
				}
			}
		}
	}
	look(reflect.TypeFor[Scheduler]())
	return all
}

func ours(t reflect.Type) bool { return t.PkgPath() == reflect.TypeFor[Scheduler]().PkgPath() }

type comparison struct {
	seen map[string]bool
	met  map[[2]uintptr]bool
}

func (c *comparison) unlike(path string, a, b reflect.Value) string {
	switch a.Kind() {
	case reflect.Pointer:
		return c.pointers(path, a, b)
	case reflect.Struct:
		if !ours(a.Type()) {
			break
		}
		for i := range a.NumField() {
			name := a.Type().Name() + "." + a.Type().Field(i).Name
			if slices.Contains(kept, name) {
				continue
			}
			if !a.Field(i).IsZero() {
				c.seen[name] = true
			}
			if u := c.unlike(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i)); u != "" {
				return u
			}
		}
		return ""
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return fmt.Sprintf("%s: %d and %d elements", path, a.Len(), b.Len())
		}
		for i := range a.Len() {
			if u := c.unlike(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i)); u != "" {
				return u
			}
		}
		return ""
	case reflect.Map:
		if a.Len() != b.Len() {
			return fmt.Sprintf("%s: %d and %d entries", path, a.Len(), b.Len())
		}
		for _, k := range a.MapKeys() {
			other := b.MapIndex(k)
			if !other.IsValid() {
				return fmt.Sprintf("%s[%v]: only one has it", path, k)
			}
			if u := c.unlike(fmt.Sprintf("%s[%v]", path, k), a.MapIndex(k), other); u != "" {
				return u
			}
		}
		return ""
	}
	if !a.Equal(b) {
		return fmt.Sprintf("%s: %#v and %#v", path, a, b)
	}
	return ""
}

func (c *comparison) pointers(path string, a, b reflect.Value) string {
	// A flow keeps a post that has no pairs for the next one.
	empty := func(v reflect.Value) bool {
		return v.IsNil() || v.Type() == reflect.TypeFor[*post]() && v.Elem().FieldByName("pairs").Len() == 0
	}
	if empty(a) || empty(b) {
		if empty(a) != empty(b) {
			return path + ": only one has it"
		}
		return ""
	}
	if both := [2]uintptr{a.Pointer(), b.Pointer()}; !c.met[both] {
		c.met[both] = true
		return c.unlike(path, a.Elem(), b.Elem())
	}
	return ""
}
