package provider

import (
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"slices"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const loginPath = "/login"

//go:embed login.html
var loginHTML string

var loginTemplate = template.Must(template.New("login").Parse(loginHTML))

// loginPage asks people who they are, and believes them.
type loginPage struct {
	issuer  string
	people  []Person
	logins  *logins
	library *op.Provider
}

func loginURL(issuer, id string) string {
	return issuer + loginPath + "?" + url.Values{"login": {id}}.Encode()
}

// show answers a GET: a button for everyone who has an account.
func (p *loginPage) show(w http.ResponseWriter, r *http.Request) {
	l, err := p.logins.find(r.FormValue("login"))
	if err != nil {
		p.render(w, http.StatusBadRequest, loginData{})
		return
	}
	p.render(w, http.StatusOK, loginData{Login: l.id, Client: l.request.ClientID, Hint: l.request.LoginHint, People: p.people})
}

// finish answers the POST of such a button.
func (p *loginPage) finish(w http.ResponseWriter, r *http.Request) {
	l, err := p.logins.find(r.PostFormValue("login"))
	if err != nil {
		p.render(w, http.StatusBadRequest, loginData{})
		return
	}
	if r.PostForm.Has("cancel") {
		p.cancel(w, r, l)
		return
	}
	i := slices.IndexFunc(p.people, func(person Person) bool { return person.Username == r.PostForm.Get("person") })
	if i < 0 {
		http.Error(w, "nobody of that name has an account", http.StatusBadRequest)
		return
	}
	if err := p.logins.answer(l.id, p.people[i].Subject); err != nil {
		p.render(w, http.StatusBadRequest, loginData{})
		return
	}
	next := op.AuthCallbackURL(p.library)(op.ContextWithIssuer(r.Context(), p.issuer), l.id)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// cancel sends the person back with an error. The library could do that, but would log the state of the login.
func (p *loginPage) cancel(w http.ResponseWriter, r *http.Request, l login) {
	_ = p.logins.DeleteAuthRequest(r.Context(), l.id)
	denied := oidc.ErrAccessDenied().WithDescription("the person cancelled the login")
	denied.State = l.GetState()
	back, err := op.AuthResponseURL(l.GetRedirectURI(), l.GetResponseType(), l.GetResponseMode(), denied, p.library.Encoder())
	if err != nil {
		http.Error(w, "the way back cannot be told", http.StatusInternalServerError)
		return
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}

// loginData is what the page shows; without people, that the login is over.
type loginData struct {
	Login  string
	Client string
	Hint   string // the username that the application expects, if any
	People []Person
}

func (p *loginPage) render(w http.ResponseWriter, status int, data loginData) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	// No form-action: browsers apply it to the redirects after a form too, and those lead to the application.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = loginTemplate.Execute(w, data)
}
