package worker

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// A redactor replaces secrets in text that comes in chunks. The end of a chunk that may be the beginning of a secret
// is kept back until the next chunk of the same stream.
type redactor struct {
	secrets []string // longest first
	kept    map[string]string
}

const hidden = "[secret]"

func newRedactor(secrets []string) redactor {
	r := redactor{kept: map[string]string{}}
	for _, s := range secrets {
		if s = strings.TrimSpace(s); len(s) >= 4 { // shorter ones would blacken the whole log
			r.secrets = append(r.secrets, s)
		}
	}
	slices.SortFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	return r
}

func (r *redactor) whole(s string) string {
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, hidden)
	}
	return s
}

// data is whole for JSON, in which a secret may be written in another way. What is no JSON after that is nothing.
func (r *redactor) data(text json.RawMessage) json.RawMessage {
	s := r.whole(string(text))
	for _, secret := range r.secrets {
		if written, err := json.Marshal(secret); err == nil {
			s = strings.ReplaceAll(s, string(written[1:len(written)-1]), hidden)
		}
	}
	if !json.Valid([]byte(s)) {
		return nil
	}
	return json.RawMessage(s)
}

// chunk returns what of the stream may be shown now.
func (r *redactor) chunk(stream, s string) string {
	if len(r.secrets) == 0 || (s == "" && r.kept[stream] == "") {
		return s
	}
	if s == "" {
		return ""
	}
	s = r.whole(r.kept[stream] + s)
	delete(r.kept, stream)
	keep := 0
	for _, secret := range r.secrets {
		for n := min(len(secret)-1, len(s)); n > keep; n-- {
			if strings.HasSuffix(s, secret[:n]) {
				keep = n
				break
			}
		}
	}
	if keep > 0 {
		r.kept[stream] = s[len(s)-keep:]
	}
	return s[:len(s)-keep]
}

// flush returns what is still kept back: no secret followed.
func (r *redactor) flush() string {
	var b strings.Builder
	for _, stream := range slices.Sorted(maps.Keys(r.kept)) {
		b.WriteString(r.kept[stream])
	}
	r.kept = map[string]string{}
	return b.String()
}
