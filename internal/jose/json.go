package jose

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of JSON from outside, so that no document can exhaust the stack.
const maxDepth = 64

// ParseObject reads exactly one JSON object, stricter than encoding/json: no duplicate members at any depth, names compared
// exactly, valid UTF-8 only, no lone surrogates, no NUL, bounded nesting. Two parsers in the path of a request that disagree on a
// document are an attack (RFC 8725 section 2.4), so whatever could be read in two ways is refused.
//
// Values are string, [json.Number] (the text as written, so that large integers stay exact), bool, nil, []any and map[string]any.
// The strings share memory with text.
func ParseObject(text string) (map[string]any, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%w: invalid UTF-8", ErrMalformed)
	}
	p := parser{text: text}
	p.space()
	if p.peek() != '{' {
		return nil, fmt.Errorf("%w: not a JSON object", ErrMalformed)
	}
	object, err := p.object(1)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.pos != len(p.text) {
		return nil, p.errorf("data after the object")
	}
	return object, nil
}

// parser is a recursive descent parser over one document. Its errors name a position, never the content.
type parser struct {
	text string
	pos  int
}

func (p *parser) errorf(what string) error {
	return fmt.Errorf("%w: %s at offset %d", ErrMalformed, what, p.pos)
}

// peek returns the next byte, or 0 at the end; a NUL byte is never valid JSON, so the two need not be told apart.
func (p *parser) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

func (p *parser) space() {
	for p.pos < len(p.text) {
		switch p.text[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

func (p *parser) value(depth int) (any, error) {
	switch c := p.peek(); {
	case c == '"':
		return p.string()
	case c == '{':
		return p.object(depth + 1)
	case c == '[':
		return p.array(depth + 1)
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case strings.HasPrefix(p.text[p.pos:], "true"):
		p.pos += len("true")
		return true, nil
	case strings.HasPrefix(p.text[p.pos:], "false"):
		p.pos += len("false")
		return false, nil
	case strings.HasPrefix(p.text[p.pos:], "null"):
		p.pos += len("null")
		return nil, nil
	default:
		return nil, p.errorf("not a JSON value")
	}
}

func (p *parser) object(depth int) (map[string]any, error) {
	if depth > maxDepth {
		return nil, p.errorf("nested too deeply")
	}
	p.pos++ // {
	object := make(map[string]any)
	p.space()
	if p.peek() == '}' {
		p.pos++
		return object, nil
	}
	for {
		p.space()
		if p.peek() != '"' {
			return nil, p.errorf("expected a member name")
		}
		name, err := p.string()
		if err != nil {
			return nil, err
		}
		if _, duplicate := object[name]; duplicate {
			return nil, p.errorf("duplicate member")
		}
		p.space()
		if p.peek() != ':' {
			return nil, p.errorf("expected a colon")
		}
		p.pos++
		p.space()
		value, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		object[name] = value
		p.space()
		switch p.peek() {
		case ',':
			p.pos++
		case '}':
			p.pos++
			return object, nil
		default:
			return nil, p.errorf("expected a comma or the end of the object")
		}
	}
}

func (p *parser) array(depth int) ([]any, error) {
	if depth > maxDepth {
		return nil, p.errorf("nested too deeply")
	}
	p.pos++ // [
	array := []any{}
	p.space()
	if p.peek() == ']' {
		p.pos++
		return array, nil
	}
	for {
		p.space()
		value, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
		p.space()
		switch p.peek() {
		case ',':
			p.pos++
		case ']':
			p.pos++
			return array, nil
		default:
			return nil, p.errorf("expected a comma or the end of the array")
		}
	}
}

func (p *parser) number() (json.Number, error) {
	start := p.pos
	if p.peek() == '-' {
		p.pos++
	}
	switch c := p.peek(); {
	case c == '0':
		p.pos++
	case c >= '1' && c <= '9':
		p.digits()
	default:
		return "", p.errorf("not a number")
	}
	if p.peek() == '.' {
		p.pos++
		if p.digits() == 0 {
			return "", p.errorf("not a number")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		if p.digits() == 0 {
			return "", p.errorf("not a number")
		}
	}
	return json.Number(p.text[start:p.pos]), nil
}

func (p *parser) digits() int {
	start := p.pos
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.pos++
	}
	return p.pos - start
}

func (p *parser) string() (string, error) {
	p.pos++ // opening quote
	start := p.pos
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c == '"':
			s := p.text[start:p.pos]
			p.pos++
			return s, nil
		case c == '\\':
			return p.escapedString(start)
		case c < 0x20:
			return "", p.errorf("control character in a string")
		default:
			p.pos++
		}
	}
	return "", p.errorf("unterminated string")
}

// escapedString goes on where string met the first backslash; only such strings are copied.
func (p *parser) escapedString(start int) (string, error) {
	var b strings.Builder
	b.WriteString(p.text[start:p.pos])
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		switch {
		case c == '"':
			p.pos++
			return b.String(), nil
		case c < 0x20:
			return "", p.errorf("control character in a string")
		case c != '\\':
			b.WriteByte(c)
			p.pos++
			continue
		}
		p.pos++
		c = p.peek()
		p.pos++
		switch c {
		case '"', '\\', '/':
			b.WriteByte(c)
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			r, err := p.escapedRune()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
		default:
			return "", p.errorf("unknown escape")
		}
	}
	return "", p.errorf("unterminated string")
}

func (p *parser) escapedRune() (rune, error) {
	r, err := p.hex4()
	if err != nil {
		return 0, err
	}
	if utf16.IsSurrogate(r) {
		if !strings.HasPrefix(p.text[p.pos:], `\u`) {
			return 0, p.errorf("lone surrogate")
		}
		p.pos += 2
		low, err := p.hex4()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return 0, p.errorf("lone surrogate")
		}
	}
	if r == 0 {
		return 0, p.errorf("NUL in a string")
	}
	return r, nil
}

func (p *parser) hex4() (rune, error) {
	if len(p.text)-p.pos < 4 {
		return 0, p.errorf("short escape")
	}
	n, err := strconv.ParseUint(p.text[p.pos:p.pos+4], 16, 16)
	if err != nil {
		return 0, p.errorf("not a hexadecimal escape")
	}
	p.pos += 4
	return rune(n), nil
}
