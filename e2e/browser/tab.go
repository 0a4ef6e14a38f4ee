package browser

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take to become what a test waits for.
const patience = time.Minute

// Tab is one page of a person.
type Tab struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	answers  []Answer
	sockets  []string
	requests requests
}

// Answer is what a request for a document got.
type Answer struct {
	URL    string
	Status int64
}

// Page is what a tab shows.
type Page struct {
	URL   string `json:"url"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

// NewTab opens an empty tab.
func (p *Person) NewTab() *Tab {
	p.t.Helper()
	return p.attach()
}

// attach drives a target of the browser, a new tab unless the options say otherwise.
func (p *Person) attach(options ...chromedp.ContextOption) *Tab {
	p.t.Helper()
	tab := &Tab{t: p.t}
	ctx, cancel := chromedp.NewContext(p.ctx, append(options, chromedp.WithListener(tab.listen))...)
	p.t.Cleanup(cancel)
	tab.ctx = ctx
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		p.t.Fatalf("opening a tab: %v", err)
	}
	p.tabs = append(p.tabs, tab)
	return tab
}

func (tab *Tab) listen(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.requests.listen(event)
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if e.Type == network.ResourceTypeDocument && e.RedirectResponse != nil {
			tab.answers = append(tab.answers, Answer{e.RedirectResponse.URL, e.RedirectResponse.Status})
		}
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument {
			tab.answers = append(tab.answers, Answer{e.Response.URL, e.Response.Status})
		}
	case *network.EventWebSocketHandshakeResponseReceived:
		tab.sockets = append(tab.sockets, strconv.FormatInt(e.Response.Status, 10))
	case *network.EventWebSocketFrameError:
		tab.sockets = append(tab.sockets, e.ErrorMessage)
	}
}

// Answers are those to every document that the tab asked for so far, redirects included.
func (tab *Tab) Answers() []Answer {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.Clone(tab.answers)
}

// Answers are those to every document that any tab asked for so far.
func (p *Person) Answers() []Answer {
	var answers []Answer
	for _, tab := range p.tabs {
		answers = append(answers, tab.Answers()...)
	}
	return answers
}

// Sockets tell how each WebSocket began: the status of the answer, or what the browser says is wrong with it.
func (tab *Tab) Sockets() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.Clone(tab.sockets)
}

func (tab *Tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		tab.t.Fatalf("%s: %v%s", what, err, tab.describe())
	}
}

// describe says what the tab shows, for the text of a failure.
func (tab *Tab) describe() string {
	shown, err := tab.show()
	if err != nil {
		return "\nthe tab shows nothing: " + err.Error()
	}
	var b strings.Builder
	b.WriteString("\nthe tab shows " + shown.URL + " (" + shown.Title + ")\n" + shown.Text)
	for _, answer := range tab.Answers() {
		b.WriteString("\n" + strconv.FormatInt(answer.Status, 10) + " " + answer.URL)
	}
	return b.String()
}

// Open goes to an address, as if somebody typed it.
func (tab *Tab) Open(url string) {
	tab.t.Helper()
	tab.do("opening "+url, chromedp.Navigate(url))
}

// Back presses the browser's Back button. It does not wait for what comes of it.
func (tab *Tab) Back() {
	tab.t.Helper()
	tab.step(-1)
}

// Forward presses the browser's Forward button. It does not wait for what comes of it.
func (tab *Tab) Forward() {
	tab.t.Helper()
	tab.step(+1)
}

// step is not done by chromedp's own actions, as these wait for a load: a page that the browser has kept is not loaded again.
func (tab *Tab) step(by int64) {
	tab.t.Helper()
	history, err := chromedp.Run(tab.ctx, chromedp.NavigationEntries())
	if err != nil {
		tab.t.Fatalf("reading the history: %v", err)
	}
	i := history.CurrentIndex + by
	if i < 0 || i >= int64(len(history.Entries)) {
		tab.t.Fatalf("there is nothing in that direction of the history%s", tab.describe())
	}
	params := page.NavigateToHistoryEntryParams{EntryID: history.Entries[i].ID}
	if _, err := chromedp.Call(tab.ctx, page.NavigateToHistoryEntry, params); err != nil {
		tab.t.Fatalf("moving in the history: %v", err)
	}
}

// Reload loads the page again.
func (tab *Tab) Reload() {
	tab.t.Helper()
	tab.do("reloading", chromedp.Reload())
}

// Fill replaces the text of an input.
func (tab *Tab) Fill(selector, text string) {
	tab.t.Helper()
	tab.do("filling in "+selector,
		chromedp.WaitVisible(chromedp.CSS(selector)),
		chromedp.Evaluate[chromedp.Void]("document.querySelector("+strconv.Quote(selector)+").value = ''"),
		chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Click clicks an element once it is there. It does not wait for what comes of it.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.do("clicking "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// Freeze stops all that the page does by itself, as browsers do with a tab that nobody has looked at for long. Thaw lets it go on.
func (tab *Tab) Freeze() {
	tab.t.Helper()
	tab.live(page.SetWebLifecycleStateStateFrozen)
}

// Thaw undoes Freeze.
func (tab *Tab) Thaw() {
	tab.t.Helper()
	tab.live(page.SetWebLifecycleStateStateActive)
}

func (tab *Tab) live(state page.SetWebLifecycleStateState) {
	tab.t.Helper()
	if _, err := chromedp.Call(tab.ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state}); err != nil {
		tab.t.Fatalf("making the tab %s: %v", state, err)
	}
}

// Has tells whether the page has such an element at the moment.
func (tab *Tab) Has(selector string) bool {
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	has, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("document.querySelector("+strconv.Quote(selector)+") !== null"))
	return err == nil && has
}

func (tab *Tab) show() (Page, error) {
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[Page](`({
		url: location.href, title: document.title,
		text: document.readyState === "complete" ? document.body?.innerText ?? "" : "",
	})`))
}

// Wait waits until the tab shows a page that will do.
func (tab *Tab) Wait(what string, will func(Page) bool) Page {
	tab.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		// Asking fails while one page gives way to the next.
		if shown, err := tab.show(); err == nil && will(shown) {
			return shown
		}
		<-tick.C
	}
	tab.t.Fatalf("waited in vain for %s%s", what, tab.describe())
	return Page{}
}

// Evaluate runs a script in the page, waits if it is a promise, and decodes the result into T.
func Evaluate[T any](tab *Tab, script string) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("running a script: %v\n%s%s", err, script, tab.describe())
	}
	return result
}

// DeleteCookie removes a cookie from the browser.
func (tab *Tab) DeleteCookie(c Cookie) {
	tab.t.Helper()
	params := network.DeleteCookiesParams{Name: c.Name, Domain: c.Domain, Path: c.Path}
	if _, err := chromedp.Call(tab.ctx, network.DeleteCookies, params); err != nil {
		tab.t.Fatalf("deleting the cookie %s: %v", c.Name, err)
	}
}

// Frame is the frame of another site in the page, once there is one below this address.
func (p *Person) Frame(url string) *Tab {
	p.t.Helper()
	return p.find("iframe", url)
}

// Opened is the tab that a page opened by itself, once it is below this address.
func (p *Person) Opened(url string) *Tab {
	p.t.Helper()
	return p.find("page", url)
}

func (p *Person) drives(id target.ID) bool {
	return slices.ContainsFunc(p.tabs, func(tab *Tab) bool { return chromedp.FromContext(tab.ctx).Target.TargetID == id })
}

func (p *Person) find(kind, url string) *Tab {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var seen []string
	for time.Now().Before(deadline) {
		targets, err := chromedp.Targets(p.ctx)
		if err != nil {
			p.t.Fatalf("listing the tabs: %v", err)
		}
		seen = seen[:0]
		for _, info := range targets {
			if info.BrowserContextID != p.id {
				continue
			}
			if info.Type == kind && !p.drives(info.TargetID) && strings.HasPrefix(info.URL, url) {
				return p.attach(chromedp.WithTargetID(info.TargetID))
			}
			seen = append(seen, info.Type+" "+info.URL)
		}
		<-tick.C
	}
	p.t.Fatalf("waited in vain for a new %s at %s, there are %q", kind, url, seen)
	return nil
}
