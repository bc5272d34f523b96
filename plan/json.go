package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// parseJSON parses text into doc. Its error says the line, and is for a person.
func parseJSON(text string, doc any) error {
	err := json.Unmarshal([]byte(text), doc)
	if err == nil {
		return nil
	}
	if at, ok := errors.AsType[*json.SyntaxError](err); ok {
		return grammarError(lineAt(text, at.Offset) + " is not JSON")
	}
	at, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return grammarError("is not JSON")
	}
	is, known := map[string]string{"array": "a list", "object": "keys and values", "string": "text", "bool": "true or false", "number": "a number"}[at.Value]
	if !known {
		is = strings.TrimPrefix(at.Value, "number ") // one that is too large, or not whole
	}
	should := at.Field + " should be "
	if at.Field == "" {
		should = "there should be "
	}
	switch at.Type.Kind() {
	case reflect.String:
		should += "text"
	case reflect.Bool:
		should += "true or false"
	case reflect.Int:
		should += "a whole number"
	case reflect.Slice:
		should += "a list"
	default:
		should += "keys and values"
	}
	return grammarError(fmt.Sprintf("%s: %s, not %s", lineAt(text, at.Offset), printable(should), printable(is)))
}

// lineAt says in which line a decoder was that had read so many bytes: the last of them is the matter.
func lineAt(text string, read int64) string {
	return where(text, int(min(max(read-1, 0), int64(len(text)))))
}
