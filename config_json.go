package openidconnect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// UnmarshalJSON decodes strictly: a misspelt member is an error that names the nearest valid one, and so is one that says nothing,
// as templates leave them behind. Both would drop a restriction without a word.
func (h *Handler) UnmarshalJSON(text []byte) error {
	if err := checkMembers("", text, reflect.TypeFor[Handler]()); err != nil {
		return err
	}
	return decodeMembers("", text, reflect.ValueOf(h).Elem())
}

// decodeMembers decodes an object into a struct member by member, so that an error names the member it is about.
func decodeMembers(path string, text json.RawMessage, v reflect.Value) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		if path == "" {
			return err
		}
		return fieldError(path, "expected an object")
	}
	fields := jsonFields(v.Type())
	for _, name := range sortedKeys(members) {
		field, inner := v.Field(fields[name]), name
		if path != "" {
			inner = path + "." + name
		}
		if field.Kind() == reflect.Pointer && field.Type().Elem().Kind() == reflect.Struct {
			field.Set(reflect.New(field.Type().Elem()))
			if err := decodeMembers(inner, members[name], field.Elem()); err != nil {
				return err
			}
			continue
		}
		if err := json.Unmarshal(members[name], field.Addr().Interface()); err != nil {
			if typeError, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
				return fieldError(inner, "expected %s, got a JSON %s", jsonType(typeError.Type), typeError.Value)
			}
			return fieldError(inner, "%s", strings.TrimPrefix(err.Error(), "json: "))
		}
	}
	return nil
}

// checkMembers judges the names and the presence of values in a JSON text that is to become a t, at any depth. What belongs to guest
// modules is theirs to judge, and so is what does not have the shape of t.
func checkMembers(path string, text json.RawMessage, t reflect.Type) error {
	text = bytes.TrimSpace(text)
	switch {
	case string(text) == "null":
		return fieldError(path, "is null; leave it out or give it a value")
	case string(text) == `""`:
		return fieldError(path, "is empty; leave it out or give it a value")
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		var elements []json.RawMessage
		if json.Unmarshal(text, &elements) != nil {
			return nil
		}
		for _, element := range elements {
			if err := checkMembers(path, element, t.Elem()); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Map && t.Elem() != reflect.TypeFor[json.RawMessage](), t.Kind() == reflect.Struct:
		var members map[string]json.RawMessage
		if json.Unmarshal(text, &members) != nil {
			return nil
		}
		var fields map[string]int
		if t.Kind() == reflect.Struct {
			fields = jsonFields(t)
		}
		for _, name := range sortedKeys(members) {
			inner := path + "." + name
			if path == "" {
				inner = name
			}
			var member reflect.Type
			if t.Kind() == reflect.Map {
				member = t.Elem()
			} else {
				index, ok := fields[name]
				if !ok {
					return unknownMember(path, name, keys(fields))
				}
				member = t.Field(index).Type
			}
			if err := checkMembers(inner, members[name], member); err != nil {
				return err
			}
		}
	}
	return nil
}

func unknownMember(path, name string, valid []string) error {
	err := fmt.Errorf("unknown field %q%s", name, didYouMean(name, valid))
	if path == "" {
		return err
	}
	return fieldError(path, "%v", err)
}

// jsonFields maps the JSON names of a struct's fields to their indexes.
func jsonFields(t reflect.Type) map[string]int {
	fields := make(map[string]int)
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" {
			fields[name] = i
		}
	}
	return fields
}

// jsonType names a Go type as somebody who writes JSON knows it.
func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	default:
		return "a number"
	}
}
