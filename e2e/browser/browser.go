// Package browser drives headless Chromium for tests. What goes wrong in it fails the test that it was asked for.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
)

// Browser is a running Chromium.
type Browser struct {
	ctx  context.Context
	data string
}

// Start runs Chromium with an empty profile, which is removed by Close.
func Start() (*Browser, error) {
	path, err := find()
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp("", "chromium-*")
	if err != nil {
		return nil, fmt.Errorf("making a profile directory: %w", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(data),
		chromedp.NoSandbox, // it does not start as root otherwise, and it only visits pages of the tests
		chromedp.DisableGPU,
		chromedp.IgnoreCertErrors,
		chromedp.WindowSize(1000, 750),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("lang", "en"),
	)
	ctx, _ := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ = chromedp.NewContext(ctx)
	b := &Browser{ctx: ctx, data: data}
	if err := chromedp.Do(ctx); err != nil {
		_ = os.RemoveAll(data)
		return nil, fmt.Errorf("starting Chromium: %w", err)
	}
	return b, nil
}

func find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("these tests need Chromium: %w", exec.ErrNotFound)
}

// Close ends Chromium.
func (b *Browser) Close() error {
	err := chromedp.Cancel(b.ctx)
	removeErr := os.RemoveAll(b.data)
	// Processes of Chromium outlive the first one for a moment, and may write there until they end.
	for deadline := time.Now().Add(patience); removeErr != nil && time.Now().Before(deadline); removeErr = os.RemoveAll(b.data) {
		time.Sleep(100 * time.Millisecond)
	}
	return errors.Join(err, removeErr)
}

// Person is somebody who sits in front of a browser: a set of tabs with cookies in common.
type Person struct {
	t   testing.TB
	ctx context.Context // of the first tab, whose end is the end of them all
	id  cdp.BrowserContextID

	tabs []*Tab // and frames in them
}

// NewPerson comes without any cookie and leaves at the end of the test.
func (b *Browser) NewPerson(t testing.TB) *Person {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("opening a window: %v", err)
	}
	return &Person{t: t, ctx: ctx, id: chromedp.FromContext(ctx).BrowserContextID}
}

// Cookie is one that the browser keeps.
type Cookie struct {
	Name, Value, Domain, Path string

	Secure, HTTPOnly bool
	SameSite         string
}

// Cookies returns all that the browser keeps for this person.
func (p *Person) Cookies() []Cookie {
	p.t.Helper()
	result, err := chromedp.CallBrowser(p.ctx, storage.GetCookies, storage.GetCookiesParams{BrowserContextID: p.id})
	if err != nil {
		p.t.Fatalf("reading the cookies: %v", err)
	}
	cookies := make([]Cookie, len(result.Cookies))
	for i, c := range result.Cookies {
		cookies[i] = Cookie{c.Name, c.Value, c.Domain, c.Path, c.Secure, c.HTTPOnly, string(c.SameSite)}
	}
	return cookies
}
