package browser

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
)

// quiet is how long nothing may happen on the network until a page counts as idle.
const quiet = 500 * time.Millisecond

// Request is one that a tab has made, of whatever kind.
type Request struct {
	URL    string
	Method string
	Kind   string // Document, Image, Fetch, …
	Status int64  // of the answer; 0 until there is one
	Failed string // why there is none, or why the browser does not show it

	// Cookies are the names of those that went along.
	Cookies []string

	id network.RequestID
}

// requests are those of a tab, in order.
type requests struct {
	made    []Request
	cookies map[network.RequestID][][]string   // of requests to be told of yet: which of both comes first is open
	open    map[network.RequestID]cdp.LoaderID // of the page that they are for
	last    time.Time                          // something happened
}

func (r *requests) listen(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if e.RedirectResponse != nil {
			r.answered(e.RequestID, e.RedirectResponse.Status)
		}
		made := Request{URL: e.Request.URL, Method: e.Request.Method, Kind: string(e.Type), id: e.RequestID}
		if early := r.cookies[e.RequestID]; len(early) > 0 {
			made.Cookies, r.cookies[e.RequestID] = early[0], early[1:]
		}
		r.made = append(r.made, made)
		if r.open == nil {
			r.open = make(map[network.RequestID]cdp.LoaderID)
		}
		r.open[e.RequestID] = e.LoaderID
	case *network.EventRequestWillBeSentExtraInfo:
		r.sent(e)
	case *network.EventResponseReceivedExtraInfo: // all there is of what the browser refuses to show
		if request := r.find(e.RequestID); request != nil && request.Status == 0 {
			request.Status = e.StatusCode
		}
	case *network.EventResponseReceived:
		r.answered(e.RequestID, e.Response.Status)
	case *network.EventLoadingFinished:
		delete(r.open, e.RequestID)
	case *network.EventLoadingFailed:
		delete(r.open, e.RequestID)
		if request := r.find(e.RequestID); request != nil {
			request.Failed = strings.TrimSpace(e.ErrorText + " " + string(e.BlockedReason))
		}
	case *page.EventFrameNavigated:
		if e.Frame.ParentID != "" {
			return
		}
		// Nobody tells what has become of the requests of the page before.
		maps.DeleteFunc(r.open, func(_ network.RequestID, loader cdp.LoaderID) bool { return loader != e.Frame.LoaderID })
	default:
		return
	}
	r.last = time.Now()
}

// find returns the newest request of that name, which redirects share.
func (r *requests) find(id network.RequestID) *Request {
	for i := range slices.Backward(r.made) {
		if r.made[i].id == id {
			return &r.made[i]
		}
	}
	return nil
}

func (r *requests) answered(id network.RequestID, status int64) {
	if request := r.find(id); request != nil {
		request.Status = status
	}
}

// sent notes the cookies of a request.
func (r *requests) sent(e *network.EventRequestWillBeSentExtraInfo) {
	cookies := []string{} // it is known that there were none
	for _, c := range e.AssociatedCookies {
		if len(c.BlockedReasons) == 0 {
			cookies = append(cookies, c.Cookie.Name)
		}
	}
	for i := range r.made {
		if request := &r.made[i]; request.id == e.RequestID && request.Cookies == nil {
			request.Cookies = cookies
			return
		}
	}
	if r.cookies == nil {
		r.cookies = make(map[network.RequestID][][]string)
	}
	r.cookies[e.RequestID] = append(r.cookies[e.RequestID], cookies)
}

// Requests are all that the tab has made so far.
func (tab *Tab) Requests() []Request {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.Clone(tab.requests.made)
}

// Rest waits until the page is idle: no request is under way, and none has been for a while.
func (tab *Tab) Rest() {
	tab.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		tab.mu.Lock()
		idle := len(tab.requests.open) == 0 && time.Since(tab.requests.last) > quiet
		tab.mu.Unlock()
		if idle {
			return
		}
		<-tick.C
	}
	tab.t.Fatalf("the page does not come to rest%s", tab.describe())
}
