package openidconnect

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logMessage is a line that the source can write.
type logMessage struct {
	text  string
	level string // empty where it depends
	at    string // file and line
}

// logFunctions write a line, or warn of something: the position of the text in the call, and its level.
var logFunctions = map[string]struct {
	text  int
	level string
}{
	"Debug": {0, "Debug"}, "Info": {0, "Info"}, "Warn": {0, "Warn"}, "Error": {0, "Error"}, "Check": {1, ""}, "Log": {1, ""},
	"warnOfStorage": {0, "Warn"},
}

// passedOn are the functions that write what they are given: by their callers and by warnings, which are found, and by the library for
// Redis.
var passedOn = []string{"warnOfStorage", "newRuntime", "Printf"}

// logMessages finds all lines that the module writes, in the root package, internal and redis.
func logMessages(t *testing.T) []logMessage {
	t.Helper()
	var messages []logMessage
	files := slices.Clone(sources(t))
	set := token.NewFileSet()
	for _, name := range must(filepath.Glob(filepath.Join("redis", "*.go"))) {
		files = append(files, &sourceFile{File: must(goparser.ParseFile(set, name, nil, 0)), set: set, path: filepath.ToSlash(name)})
	}
	for _, file := range files {
		if file.test() || strings.HasPrefix(file.dir(), "internal/optest") || strings.HasPrefix(file.dir(), "internal/apisix") {
			continue
		}
		for _, declared := range file.Decls {
			function, ok := declared.(*ast.FuncDecl)
			if !ok || function.Body == nil {
				continue
			}
			ast.Inspect(function.Body, func(node ast.Node) bool {
				call, ok := node.(*ast.CallExpr)
				if !ok {
					return true
				}
				if message, ok := messageOf(t, file, function, call); ok {
					messages = append(messages, message)
				}
				return true
			})
		}
	}
	return messages
}

func messageOf(t *testing.T, file *sourceFile, function *ast.FuncDecl, call *ast.CallExpr) (message logMessage, ok bool) {
	t.Helper()
	message.at = file.set.Position(call.Pos()).String()
	name := function.Name.Name
	if strings.HasSuffix(strings.ToLower(name), "warnings") { // what is wrong with a configuration
		if appends, ok := call.Fun.(*ast.Ident); !ok || appends.Name != "append" || len(call.Args) != 2 || call.Ellipsis.IsValid() {
			return message, false
		}
		message.text, message.level = literalOf(call.Args[1]), "Warn"
		return message, message.text != ""
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return message, false
	}
	writes, ok := logFunctions[selector.Sel.Name]
	if !ok || len(call.Args) <= writes.text {
		return message, false
	}
	of := types.ExprString(selector.X)
	isLogger := strings.HasSuffix(of, "logger") || strings.HasSuffix(of, "Log()") || selector.Sel.Name == "warnOfStorage"
	message.text, message.level = literalOf(call.Args[writes.text]), writes.level
	switch {
	case !isLogger:
		return message, false
	case message.text == "" && !slices.Contains(passedOn, name):
		t.Errorf("%s: nobody finds out what %s writes", message.at, name)
	}
	if level, ok := call.Args[0].(*ast.SelectorExpr); ok && writes.text == 1 {
		message.level = strings.TrimSuffix(level.Sel.Name, "Level")
	}
	return message, message.text != ""
}

// literalOf is a text as the documentation has it: what gets into it is an ellipsis there.
func literalOf(value ast.Expr) string {
	switch value := value.(type) {
	case *ast.BasicLit:
		if value.Kind == token.STRING {
			return regexp.MustCompile(`%[sdqv]`).ReplaceAllString(must(strconv.Unquote(value.Value)), "…")
		}
	case *ast.BinaryExpr:
		return literalOf(value.X) + literalOf(value.Y)
	case *ast.CallExpr:
		if types.ExprString(value.Fun) == "fmt.Sprintf" {
			return literalOf(value.Args[0])
		}
	}
	return ""
}

// TestEveryLineIsDocumented: whoever meets a line of this module in the log can look it up, word by word, and finds none that there is
// not.
func TestEveryLineIsDocumented(t *testing.T) {
	t.Parallel()
	table := section(t, readFile(t, filepath.Join("docs", "monitoring.md")), "## Every line")
	documented := make(map[string]string) // the levels, by message
	for _, row := range regexp.MustCompile("(?m)^\\| (`.+?`) \\| ([A-Za-z, ]+) \\|").FindAllStringSubmatch(table, -1) {
		for _, text := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[text[1]] = row[2]
		}
	}
	messages := logMessages(t)
	if len(messages) < 70 {
		t.Errorf("%d lines only", len(messages))
	}
	written := make(map[string]bool)
	for _, message := range messages {
		written[message.text] = true
		switch levels, ok := documented[message.text]; {
		case !ok:
			t.Errorf("%s: nobody learns what `%s` means (%s)", message.at, message.text, message.level)
		case message.level != "" && !slices.Contains(strings.Split(levels, ", "), message.level):
			t.Errorf("%s: `%s` is written at %s, and documented for %s", message.at, message.text, message.level, levels)
		}
	}
	for text := range documented {
		if !written[text] {
			t.Errorf("nothing writes `%s`", text)
		}
	}
}
