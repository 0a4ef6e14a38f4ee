package redis

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"reflect"
	"strings"
	"testing"
)

// TestHandlersInterface compares the methods with the interface that the handler demands. The handler's module is none that this one
// depends on, since a build takes both of them each in a version of its own; so its source is read.
func TestHandlersInterface(t *testing.T) {
	t.Parallel()
	file, err := goparser.ParseFile(token.NewFileSet(), "../internal/session/backend.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared, ok := file.Scope.Lookup("Backend").Decl.(*ast.TypeSpec).Type.(*ast.InterfaceType)
	if !ok || declared.Methods.NumFields() < 7 {
		t.Fatalf("Backend is not the interface that it was: %v", declared)
	}
	store := reflect.TypeFor[*Store]()
	for _, field := range declared.Methods.List {
		name := field.Names[0].Name
		method, ok := store.MethodByName(name)
		if !ok {
			t.Errorf("there is no %s", name)
			continue
		}
		function := field.Type.(*ast.FuncType)
		var got []string
		for i := 1; i < method.Type.NumIn(); i++ { // the first one is the receiver
			got = append(got, method.Type.In(i).String())
		}
		for result := range method.Type.Outs() {
			got = append(got, result.String())
		}
		want := append(typesOf(function.Params), typesOf(function.Results)...)
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("%s takes and returns %q, want %q", name, got, want)
		}
	}
}

// typesOf writes the types of parameters or results as reflection does.
func typesOf(fields *ast.FieldList) []string {
	var types []string
	for _, field := range fields.List {
		for range max(1, len(field.Names)) {
			types = append(types, typeOf(field.Type))
		}
	}
	return types
}

func typeOf(expression ast.Expr) string {
	switch e := expression.(type) {
	case *ast.Ident:
		if e.Name == "byte" {
			return "uint8"
		}
		return e.Name
	case *ast.SelectorExpr:
		return typeOf(e.X) + "." + e.Sel.Name
	case *ast.ArrayType:
		return "[]" + typeOf(e.Elt)
	case *ast.FuncType:
		return "func()"
	default:
		return "?"
	}
}
