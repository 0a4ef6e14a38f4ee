package hydra

import (
	"html/template"
	"net/http"
	"slices"
)

const (
	loginPath   = "/login"
	consentPath = "/consent"
	logoutPath  = "/logout"
)

// Hydra leaves it to these pages who somebody is, what a client may have, and whether a logout is meant.
var pages = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en">
<title>{{.Title}}</title>
<form method="post">
<input type="hidden" name="challenge" value="{{.Challenge}}">
{{if .Asks}}<input id="name" name="name"> <input id="password" name="password" type="password">{{end}}
<button id="{{.Button}}">{{.Title}}</button>
</form>
</html>
`))

type page struct {
	Title, Challenge, Button string
	Asks                     bool
}

// decision is where Hydra wants a browser to go, once it knows what was decided.
type decision struct {
	RedirectTo string `json:"redirect_to"`
}

func (h *Hydra) servePages() {
	h.front.Handle("GET "+loginPath, h.showLogin)
	h.front.Handle("POST "+loginPath, h.finishLogin)
	h.front.Handle("GET "+consentPath, h.consent)
	h.front.Handle("GET "+logoutPath, h.showLogout)
	h.front.Handle("POST "+logoutPath, h.finishLogout)
}

// showLogin asks who somebody is, unless Hydra knows.
func (h *Hydra) showLogin(w http.ResponseWriter, r *http.Request) {
	challenge := r.FormValue("login_challenge")
	var asked struct {
		Skip    bool   `json:"skip"`
		Subject string `json:"subject"`
	}
	if err := h.request(r.Context(), http.MethodGet, "login", "", challenge, nil, &asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if asked.Skip {
		h.accept(w, r, "login", challenge, object{"subject": asked.Subject})
		return
	}
	show(w, page{"Sign in", challenge, "sign-in", true})
}

func (h *Hydra) finishLogin(w http.ResponseWriter, r *http.Request) {
	name, password := r.PostFormValue("name"), r.PostFormValue("password")
	if !slices.ContainsFunc(h.accounts, func(a Account) bool { return a.Name == name && a.Password == password }) {
		http.Error(w, "nobody has this name and this password", http.StatusForbidden)
		return
	}
	h.accept(w, r, "login", r.PostFormValue("challenge"), object{"subject": Subject(name), "remember": true, "remember_for": 3600})
}

// Subject is the sub of an account.
func Subject(name string) string { return "hydra-" + name }

// consent gives a client all that it asks for.
func (h *Hydra) consent(w http.ResponseWriter, r *http.Request) {
	challenge := r.FormValue("consent_challenge")
	var asked struct {
		Scopes   []string `json:"requested_scope"`
		Audience []string `json:"requested_access_token_audience"`
		Subject  string   `json:"subject"`
	}
	if err := h.request(r.Context(), http.MethodGet, "consent", "", challenge, nil, &asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	var claims map[string]any
	for _, a := range h.accounts {
		if Subject(a.Name) == asked.Subject {
			claims = a.Claims
		}
	}
	h.accept(w, r, "consent", challenge, object{
		"grant_scope": asked.Scopes, "grant_access_token_audience": asked.Audience,
		"session": object{"id_token": claims},
	})
}

// showLogout asks whether a logout is meant, unless a client has vouched for it.
func (h *Hydra) showLogout(w http.ResponseWriter, r *http.Request) {
	challenge := r.FormValue("logout_challenge")
	var asked struct {
		ByClient bool `json:"rp_initiated"`
	}
	if err := h.request(r.Context(), http.MethodGet, "logout", "", challenge, nil, &asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if asked.ByClient {
		h.accept(w, r, "logout", challenge, nil)
		return
	}
	show(w, page{"Sign out", challenge, "sign-out", false})
}

func (h *Hydra) finishLogout(w http.ResponseWriter, r *http.Request) {
	h.accept(w, r, "logout", r.PostFormValue("challenge"), nil)
}

// accept tells Hydra what was decided, and sends the browser on.
func (h *Hydra) accept(w http.ResponseWriter, r *http.Request, kind, challenge string, body object) {
	var decided decision
	if err := h.request(r.Context(), http.MethodPut, kind, "/accept", challenge, body, &decided); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	http.Redirect(w, r, decided.RedirectTo, http.StatusSeeOther)
}

func show(w http.ResponseWriter, p page) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pages.Execute(w, p)
}
