package openidconnect

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	// frontchannelOn is what a site needs for front-channel logout.
	frontchannelOn = "frontchannel_logout on\n"
	// framing is a page of another site, such as the provider's.
	framing = "https://id.example/signed-out"
)

// frontchannelURL is where the provider's page sends its frame.
func (b *backchannel) frontchannelURL(query string) string {
	return b.site.server.URL + defaultPathPrefix + endpointFrontchannelLogout + "?" + query
}

// named is the query that names a session as the provider does.
func (b *backchannel) named(sid string) string { return namedBy(b.p.Issuer(), sid) }

func namedBy(issuer, sid string) string { return url.Values{"iss": {issuer}, "sid": {sid}}.Encode() }

// frame has a browser that has never been at the site load the endpoint in a frame, so that no cookie can have a part in it.
func (b *backchannel) frame(query string) *optest.Response {
	b.t.Helper()
	browser := optest.NewBrowser(b.t)
	if certificate := b.site.server.Certificate(); certificate != nil {
		browser.Trust(certificate)
	}
	return b.framedBy(browser, query)
}

// framedBy has a browser load the endpoint in a frame of another site.
func (b *backchannel) framedBy(browser *optest.Browser, query string) *optest.Response {
	b.t.Helper()
	r := browser.Frame(framing, b.frontchannelURL(query))
	wantFramed(b.t, r)
	return r
}

// wantFramed checks what every frame gets, whatever it has done.
func wantFramed(t testing.TB, r *optest.Response) {
	t.Helper()
	if r.Status != http.StatusOK || r.Body != frontchannelPage {
		t.Errorf("got %d: %s", r.Status, r.Body)
	}
	for _, page := range []string{framing, "https://evil.example/"} {
		if !r.FramableBy(page) {
			t.Errorf("%s cannot frame it: %v", page, r.Header)
		}
	}
	want := http.Header{
		"Cache-Control": {"no-store"}, "Content-Type": {"text/html; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"},
		"Content-Security-Policy": {"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors *"}, "Referrer-Policy": {"no-referrer"},
		"Content-Length": r.Header["Content-Length"],
	}
	got := maps.Clone(r.Header)
	delete(got, "Date")
	delete(got, "Set-Cookie")
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("headers %v, want %v", got, want)
	}
}

// wantNoCookie checks that a frame sets none.
func wantNoCookie(t testing.TB, r *optest.Response) {
	t.Helper()
	if got := r.Header.Values("Set-Cookie"); len(got) != 0 {
		t.Errorf("Set-Cookie %q", got)
	}
}

// remembered is how many names of sessions a site remembers.
func (s *site) remembered() int {
	memory := s.handler.runtime.login.logouts
	memory.mu.Lock()
	defer memory.mu.Unlock()
	return len(memory.sids)
}

// wantNoTrace checks that whatever is done ends no session, and leaves nothing in the memory and in the storage.
func (b *backchannel) wantNoTrace(t *testing.T, storage *folderStorage, do func(), people ...*visitor) {
	t.Helper()
	wantAlive(t, people...)
	b.site.settle()
	names, listed, stored, files := b.site.remembered(), b.site.listed(), storage.stored.Load(), storage.files(t, "")
	do()
	b.site.settle()
	if now := b.site.remembered(); now != names {
		t.Errorf("%d names of sessions are remembered, there were %d", now, names)
	}
	if now := b.site.listed(); now != listed {
		t.Errorf("%d revocations, there were %d", now, listed)
	}
	if now := storage.stored.Load(); now != stored {
		t.Errorf("%d writes to the storage", now-stored)
	}
	if now := storage.files(t, ""); !maps.Equal(now, files) {
		t.Errorf("%d files in the storage, there were %d", len(now), len(files))
	}
	wantAlive(t, people...)
}

// newFrontchannel starts a site with front-channel logout on a storage that can be looked into.
func newFrontchannel(t *testing.T, settings string, options ...optest.Option) (*backchannel, *folderStorage) {
	t.Helper()
	p := optest.New(t, options...)
	storage := newFolderStorage(t)
	return newBackchannelAt(t, p, newSiteOn(t, storage, p, sealedWithSecret(frontchannelOn+settings))), storage
}

// longSID is the longest name of a session that a frame may bring.
var longSID = strings.Repeat("a", maxSID)
