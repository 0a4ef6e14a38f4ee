package upstream

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
)

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// page is what the template shows.
type page struct {
	Path     string
	Identity *identity // nil for anonymous visitors
	Userinfo string    // the decoded X-Userinfo, indented
	Headers  []header
}

// identity is what the upstream makes of X-Userinfo. It may believe that header, as nothing but the gateway reaches it.
type identity struct {
	Subject string   `json:"sub"`
	Name    string   `json:"name"`
	Email   string   `json:"email"`
	Groups  []string `json:"groups"`
}

type header struct {
	Name, Value string
	Ours        bool // about who it is, so from the gateway
}

func showPage(w http.ResponseWriter, received Received) {
	p := page{Path: received.Path}
	for _, name := range slices.Sorted(maps.Keys(received.Headers)) {
		value := strings.Join(received.Headers[name], "\n")
		p.Headers = append(p.Headers, header{Name: name, Value: value, Ours: strings.HasPrefix(name, "X-User")})
	}
	slices.SortStableFunc(p.Headers, func(a, b header) int {
		switch {
		case a.Ours == b.Ours:
			return 0
		case a.Ours:
			return -1
		default:
			return 1
		}
	})
	if userinfo := received.Headers.Get("X-Userinfo"); userinfo != "" {
		decoded, err := base64.StdEncoding.DecodeString(userinfo)
		if err == nil {
			err = json.Unmarshal(decoded, &p.Identity)
		}
		if err != nil {
			http.Error(w, "X-Userinfo cannot be read: "+err.Error(), http.StatusBadGateway)
			return
		}
		var indented bytes.Buffer
		_ = json.Indent(&indented, decoded, "", "  ") // it was read as JSON just now
		p.Userinfo = indented.String()
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pageTemplate.Execute(w, p)
}
