package jose

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseObject(t *testing.T) {
	t.Parallel()
	type object = map[string]any
	deepest := strings.Repeat(`{"a":`, maxDepth-1) + `{}` + strings.Repeat("}", maxDepth-1)
	tests := []struct {
		text string
		want object // nil where only acceptance counts
	}{
		{`{}`, object{}},
		{" \t\r\n{ \t\r\n} \t\r\n", object{}},
		{`{"":""}`, object{"": ""}},
		{`{"a":null,"b":true,"c":false}`, object{"a": nil, "b": true, "c": false}},
		{`{ "a" : [ ] , "b" : [ 1 , [ 2 ] ] , "c" : { "d" : { } } }`, object{
			"a": []any{}, "b": []any{json.Number("1"), []any{json.Number("2")}}, "c": object{"d": object{}},
		}},
		{`{"a":"\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude00"}`, object{"a": "\"\\/\b\f\n\r\tAé€😀"}},
		{`{"a":"é€😀"}`, object{"a": "é€😀"}},
		{`{"a":"\u00E9\u00e9"}`, object{"a": "éé"}},
		{`{"a":"\uFFFD\ufeff\uffff"}`, object{"a": "\ufffd\ufeff\uffff"}},
		{`{"\u0061":1,"A":2}`, object{"a": json.Number("1"), "A": json.Number("2")}},
		{"{\"a\":\"\x7f\"}", object{"a": "\x7f"}},
		{`{"a":0,"b":-0,"c":-1.5e+3,"d":1E5,"e":0.25,"f":1e-7,"g":10}`, object{
			"a": json.Number("0"), "b": json.Number("-0"), "c": json.Number("-1.5e+3"), "d": json.Number("1E5"),
			"e": json.Number("0.25"), "f": json.Number("1e-7"), "g": json.Number("10"),
		}},
		{`{"a":9007199254740993,"b":123456789012345678901234567890}`, object{
			"a": json.Number("9007199254740993"), "b": json.Number("123456789012345678901234567890"),
		}},
		{`{"a":{"x":1},"b":{"x":2},"x":3}`, object{"a": object{"x": json.Number("1")}, "b": object{"x": json.Number("2")}, "x": json.Number("3")}},
		{deepest, nil},
		{`{"a":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `}`, nil},
	}
	for _, test := range tests {
		t.Run(test.text[:min(len(test.text), 60)], func(t *testing.T) {
			t.Parallel()
			got, err := ParseObject(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if test.want != nil && !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %#v, want %#v", got, test.want)
			}
		})
	}
}

// S-066, S-068, S-245 and the grammar of RFC 8259.
func TestParseObjectRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"nothing":                    ``,
		"space":                      ` `,
		"NUL":                        "\x00",
		"list":                       `[]`,
		"string":                     `"a"`,
		"number":                     `1`,
		"null":                       `null`,
		"unclosed":                   `{`,
		"unopened":                   `}`,
		"name without quotes":        `{a:1}`,
		"single quotes":              `{'a':1}`,
		"name is a number":           `{1:1}`,
		"no colon":                   `{"a" 1}`,
		"no value":                   `{"a":}`,
		"no comma":                   `{"a":1 "b":2}`,
		"trailing comma":             `{"a":1,}`,
		"leading comma":              `{,"a":1}`,
		"two commas":                 `{"a":1,,"b":2}`,
		"unclosed after a value":     `{"a":1`,
		"unclosed after a comma":     `{"a":1,`,
		"unclosed after a colon":     `{"a":`,
		"unclosed name":              `{"a`,
		"unclosed string":            `{"a":"b`,
		"unclosed escape":            `{"a":"\`,
		"unclosed unicode escape":    `{"a":"\u00`,
		"list with trailing comma":   `{"a":[1,]}`,
		"list with leading comma":    `{"a":[,1]}`,
		"list without comma":         `{"a":[1 2]}`,
		"list unclosed":              `{"a":[1`,
		"list closed as an object":   `{"a":[1}]`,
		"object closed as a list":    `{"a":1]`,
		"data after":                 `{"a":1}x`,
		"object after":               `{}{}`,
		"NUL after":                  "{}\x00",
		"comment":                    `{/**/}`,
		"line comment":               "{}//",
		"byte order mark":            "\ufeff{}",
		"other white space":          "{\u00a0}",
		"form feed":                  "{\f}",
		"vertical tab":               "{\v}",
		"True":                       `{"a":True}`,
		"truth":                      `{"a":truth}`,
		"tru":                        `{"a":tru}`,
		"nul":                        `{"a":nul}`,
		"undefined":                  `{"a":undefined}`,
		"NaN":                        `{"a":NaN}`,
		"Infinity":                   `{"a":Infinity}`,
		"-Infinity":                  `{"a":-Infinity}`,
		"plus":                       `{"a":+1}`,
		"leading zero":               `{"a":01}`,
		"minus leading zero":         `{"a":-01}`,
		"minus alone":                `{"a":-}`,
		"no digit before the point":  `{"a":.5}`,
		"no digit after the point":   `{"a":5.}`,
		"no exponent":                `{"a":1e}`,
		"no exponent after its sign": `{"a":1e+}`,
		"two points":                 `{"a":1.2.3}`,
		"hexadecimal":                `{"a":0x1}`,
		"underscore":                 `{"a":1_000}`,
		"suffix":                     `{"a":1n}`,
		"escape of a newline":        "{\"a\":\"\\\n\"}",
		"unknown escape":             `{"a":"\x41"}`,
		"escaped quote":              `{"a":"\'"}`,
		"upper case escape":          `{"a":"\U00000041"}`,
		"not hexadecimal":            `{"a":"\u00g0"}`,
		"sign in an escape":          `{"a":"\u+041"}`,
		"space in an escape":         `{"a":"\u 041"}`,
		"underscore in an escape":    `{"a":"\u0_41"}`,
		"prefix in an escape":        `{"a":"\u0x41"}`,
		"newline in a string":        "{\"a\":\"\n\"}",
		"tab in a string":            "{\"a\":\"\t\"}",
		"unit separator":             "{\"a\":\"\x1f\"}",
		"control after an escape":    "{\"a\":\"\\n\x01\"}",
		"NUL in a string":            "{\"a\":\"\x00\"}",
		"escaped NUL":                `{"a":"\u0000"}`,
		"escaped NUL in a name":      `{"\u0000":1}`,
		"invalid UTF-8":              "{\"a\":\"\x80\"}",
		"invalid UTF-8 in a name":    "{\"\xff\":1}",
		"invalid UTF-8 after":        "{}\xff",
		"encoded surrogates":         "{\"a\":\"\xed\xa0\xbd\xed\xb8\x80\"}",
		"beyond Unicode":             "{\"a\":\"\xf4\x90\x80\x80\"}",
		"high surrogate alone":       `{"a":"\ud83d"}`,
		"high surrogate and text":    `{"a":"\ud83dx"}`,
		"high surrogate and escape":  `{"a":"\ud83d\n"}`,
		"high surrogate and letter":  `{"a":"\ud83d\u0041"}`,
		"high surrogate twice":       `{"a":"\ud83d\ud83d"}`,
		"high surrogate, cut":        `{"a":"\ud83d\ude"}`,
		"low surrogate alone":        `{"a":"\ude00"}`,
		"surrogates swapped":         `{"a":"\ude00\ud83d"}`,
		"duplicate":                  `{"a":1,"a":1}`,
		"duplicate, apart":           `{"a":1,"b":2,"a":3}`,
		"duplicate, escaped":         `{"a":1,"\u0061":2}`,
		"duplicate, both escaped":    `{"\u00e9":1,"\u00E9":2}`,
		"duplicate, empty":           `{"":1,"":2}`,
		"duplicate, nested":          `{"x":{"a":1,"a":2}}`,
		"duplicate, in a list":       `{"x":[1,{"a":1,"a":2}]}`,
		"duplicate, null first":      `{"a":null,"a":1}`,
		"duplicate, surrogates":      `{"😀":1,"\ud83d\ude00":2}`,
		"one object too deep":        strings.Repeat(`{"a":`, maxDepth) + `{}` + strings.Repeat("}", maxDepth),
		"one list too deep":          `{"a":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`,
		"200,000 lists":              `{"a":` + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000) + `}`,
		"200,000 open lists":         `{"a":` + strings.Repeat("[", 200_000),
		"200,000 objects":            strings.Repeat(`{"a":`, 200_000) + "1" + strings.Repeat("}", 200_000),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object, err := ParseObject(text)
			if !errors.Is(err, ErrMalformed) || object != nil {
				t.Errorf("ParseObject = %v, %v", object, err)
			}
			if _, err := Parse(compact(`{"alg":"ES256"}`, text), 2<<20); !errors.Is(err, ErrMalformed) {
				t.Errorf("as a payload: %v", err)
			}
		})
	}
}

// Errors are logged, so they never quote the document.
func TestErrorsHoldNoContent(t *testing.T) {
	t.Parallel()
	const secret = "c29tZXRoaW5n"
	for _, text := range []string{
		`{"a":"` + secret, `{"` + secret + `":1,"` + secret + `":2}`, `{"a":` + secret + `}`, `{"a":"\u` + secret + `"}`,
		`{"a":"` + secret + "\xff\"}", `{"a":1}` + secret, secret,
	} {
		_, err := ParseObject(text)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("ParseObject(%q): %v", text, err)
		}
	}
	for _, raw := range []string{
		secret, secret + "." + secret + "." + secret, compact(`{"alg":"`+secret+`"}`, `{}`), compact(`{"alg":"ES256","kid":["`+secret+`"]}`, `{}`),
		compact(`{"alg":"ES256"}`, `{"exp":"`+secret+`"}`), compact(`{"alg":"ES256","crit":["`+secret+`"]}`, `{}`),
	} {
		_, err := Parse(raw, MaxClientToken)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("Parse(%q): %v", raw, err)
		}
	}
}

// S-071, S-072, S-074: what a numeric date is. Whether it has passed is for the caller.
func TestDate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		want time.Time
		fail bool
	}{
		`4102444800`:             {want: time.Unix(4102444800, 0)},
		`4102444800.5`:           {want: time.Unix(4102444800, 5e8)},
		`4102444800.0`:           {want: time.Unix(4102444800, 0)},
		`4.1024448e9`:            {want: time.Unix(4102444800, 0)},
		`41024448E2`:             {want: time.Unix(4102444800, 0)},
		`0`:                      {want: time.Unix(0, 0)},
		`-0`:                     {want: time.Unix(0, 0)},
		`0.9`:                    {want: time.Unix(0, 9e8)},
		`1`:                      {want: time.Unix(1, 0)},
		`1e-400`:                 {want: time.Unix(0, 0)},
		`-1`:                     {want: time.Unix(-1, 0)},
		`-0.25`:                  {want: time.Unix(0, -25e7)},
		`-9223372036854775808`:   {want: time.Unix(-1, 0)},
		`-62135596800`:           {want: time.Unix(-1, 0)}, // the zero time would read as absent
		`253402300799`:           {want: time.Unix(latestDate, 0)},
		`253402300800`:           {want: time.Unix(latestDate, 0)},
		`9223372036854775807`:    {want: time.Unix(latestDate, 0)},
		`18446744073709551616`:   {want: time.Unix(latestDate, 0)},
		`1e300`:                  {want: time.Unix(latestDate, 0)},
		`1e309`:                  {fail: true},
		`-1e309`:                 {fail: true},
		`1e99999999999999999999`: {fail: true},
		`"0"`:                    {fail: true},
		`"4102444800"`:           {fail: true},
		`"2099-01-01T00:00:00Z"`: {fail: true},
		`""`:                     {fail: true},
		`true`:                   {fail: true},
		`null`:                   {fail: true},
		`[]`:                     {fail: true},
		`[4102444800]`:           {fail: true},
		`{}`:                     {fail: true},
		`{"exp":4102444800}`:     {fail: true},
	}
	for text, test := range tests {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			claims, err := ParseObject(`{"exp":` + text + `}`)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Date(claims, "exp")
			if test.fail {
				if !errors.Is(err, ErrMalformed) || !got.IsZero() {
					t.Errorf("Date = %v, %v", got, err)
				}
			} else if err != nil || !got.Equal(test.want) || got.IsZero() {
				t.Errorf("Date = %v, %v, want %v", got, err, test.want)
			}
			for _, name := range []string{"exp", "nbf", "iat"} {
				if _, err := Parse(compact(`{"alg":"ES256"}`, `{"`+name+`":`+text+`}`), MaxClientToken); (err != nil) != test.fail {
					t.Errorf("%s of a token: %v", name, err)
				}
			}
		})
	}
	if got, err := Date(map[string]any{"iat": json.Number("1")}, "exp"); err != nil || !got.IsZero() {
		t.Errorf("absent: %v, %v", got, err)
	}
	// What did not come from ParseObject is no number either.
	for _, value := range []any{4102444800.0, 4102444800, json.Number(""), json.Number("x"), json.Number("NaN"), json.Number("Inf")} {
		if got, err := Date(map[string]any{"exp": value}, "exp"); !errors.Is(err, ErrMalformed) {
			t.Errorf("Date of %T %v = %v, %v", value, value, got, err)
		}
	}
}
