package apisix

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// kind is a kind of JSON value, in the words of error texts.
type kind string

const (
	kindText   kind = "a string"
	kindNumber kind = "a number"
	kindFlag   kind = "true or false"
	kindNull   kind = "null"
	kindObject kind = "an object"
	kindList   kind = "a list"
)

// value is a JSON value that knows where it stands.
type value struct {
	kind     kind
	text     string // of strings and numbers; "true" for true
	members  []member
	elements []*value
	line     int
	column   int
}

// member is a member of an object, in its place.
type member struct {
	name  string
	value *value
}

func (v *value) member(name string) *value {
	if v == nil || v.kind != kindObject {
		return nil
	}
	for _, m := range v.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// object is the member of that name if it is an object, else nil.
func (v *value) object(name string) *value {
	if m := v.member(name); m != nil && m.kind == kindObject {
		return m
	}
	return nil
}

func (v *value) errorf(format string, arguments ...any) error {
	return fmt.Errorf("line %d, column %d: %s", v.line, v.column, fmt.Sprintf(format, arguments...))
}

// maxDepth is deeper than any configuration of APISIX.
const maxDepth = 64

// reader reads JSON by its tokens, so that duplicates, order and positions are not lost.
type reader struct {
	decoder *json.Decoder
	input   []byte
}

func parseJSON(input []byte) (*value, error) {
	input = bytes.TrimPrefix(input, []byte("\xef\xbb\xbf"))
	if len(bytes.TrimSpace(input)) == 0 {
		return nil, errors.New("the input is empty, where the JSON of a plugin was expected")
	}
	r := &reader{json.NewDecoder(bytes.NewReader(input)), input}
	r.decoder.UseNumber()
	root, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if root.kind != kindObject && root.kind != kindList {
		return nil, root.errorf("expected the object of a plugin, not %s", root.kind)
	}
	line, column := r.position()
	if _, err := r.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d, column %d: something stands after the end of the JSON", line, column)
	}
	return root, nil
}

// position is where the next token begins.
func (r *reader) position() (line, column int) {
	offset := min(int(r.decoder.InputOffset()), len(r.input))
	for offset < len(r.input) && strings.IndexByte(" \t\r\n:,", r.input[offset]) >= 0 {
		offset++
	}
	before := r.input[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, len([]rune(string(before[start:]))) + 1
}

func (r *reader) token() (json.Token, int, int, error) {
	line, column := r.position()
	token, err := r.decoder.Token()
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return token, line, column, nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the JSON ends before it is complete")
	case errors.As(err, &syntax):
		err = fmt.Errorf("not JSON: %w", err) // its text may quote a character of the input, and nothing more
	}
	return nil, 0, 0, fmt.Errorf("line %d, column %d: %w", line, column, err)
}

func (r *reader) value(depth int) (*value, error) {
	token, line, column, err := r.token()
	if err != nil {
		return nil, err
	}
	v := &value{line: line, column: column}
	switch token := token.(type) {
	case string:
		v.kind, v.text = kindText, token
	case json.Number:
		v.kind, v.text = kindNumber, token.String()
	case bool:
		v.kind, v.text = kindFlag, fmt.Sprint(token)
	case nil:
		v.kind = kindNull
	case json.Delim:
		if depth >= maxDepth {
			return nil, v.errorf("more than %d levels of nesting", maxDepth)
		}
		if token == '{' {
			return r.members(v, depth)
		}
		return r.elements(v, depth)
	}
	return v, nil
}

func (r *reader) members(v *value, depth int) (*value, error) {
	v.kind = kindObject
	seen := make(map[string]bool)
	for r.decoder.More() {
		token, line, column, err := r.token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the decoder takes nothing else there
		if seen[name] {
			return nil, fmt.Errorf("line %d, column %d: %s is there twice", line, column, shown(name))
		}
		seen[name] = true
		read, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		v.members = append(v.members, member{name, read})
	}
	return v, r.end()
}

// end reads the end of an object or a list.
func (r *reader) end() error {
	end, line, column, err := r.token()
	if err == nil && end == nil {
		err = fmt.Errorf("line %d, column %d: not JSON", line, column)
	}
	return err
}

func (r *reader) elements(v *value, depth int) (*value, error) {
	v.kind = kindList
	for r.decoder.More() {
		read, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		v.elements = append(v.elements, read)
	}
	return v, r.end()
}
