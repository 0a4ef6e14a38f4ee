package redis

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// UnmarshalJSON decodes strictly: a misspelt member is an error that names the nearest valid one, and so is one that says nothing.
func (s *Store) UnmarshalJSON(text []byte) error {
	return decodeStrictly("", text, reflect.ValueOf(s).Elem())
}

func decodeStrictly(path string, text []byte, v reflect.Value) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		if path == "" {
			return errors.New("expected an object")
		}
		return fmt.Errorf("%s: expected an object", strings.TrimSuffix(path, "."))
	}
	fields := jsonFields(v.Type())
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names) // the same error each time
	for _, name := range names {
		field, ok := fields[name]
		if !ok {
			return fmt.Errorf("unknown field %q%s", path+name, didYouMean(name, keys(fields)))
		}
		if err := decodeMember(path+name, members[name], v.Field(field)); err != nil {
			return err
		}
	}
	return nil
}

// decodeMember repeats nothing of the value in its errors, which may be a password.
func decodeMember(name string, text json.RawMessage, field reflect.Value) error {
	if value := string(text); value == "null" || value == `""` || value == "[]" {
		return fmt.Errorf("%s: is empty; leave it out or give it a value", name)
	}
	if field.Type() == reflect.TypeFor[*ClientCertificate]() {
		field.Set(reflect.New(field.Type().Elem()))
		return decodeStrictly(name+".", text, field.Elem())
	}
	if field.Type() == reflect.TypeFor[[]string]() && text[0] == '"' {
		text = slices.Concat(json.RawMessage("["), text, json.RawMessage("]"))
	}
	if err := json.Unmarshal(text, field.Addr().Interface()); err != nil {
		if typeError, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("%s: expected %s, got a JSON %s", name, jsonType(typeError.Type), strings.Fields(typeError.Value)[0])
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	if name == "port" && field.Int() == 0 {
		return errPort
	}
	return nil
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

func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list of strings"
	default:
		return "a whole number"
	}
}
