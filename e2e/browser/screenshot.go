package browser

import (
	"os"
	"path/filepath"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// screenshots is the environment variable that names the folder for them.
const screenshots = "E2E_SCREENSHOTS"

// Screenshot writes what the tab shows as PNG files, in the width of a desktop and of a phone, light and dark. It does
// nothing unless the environment variable E2E_SCREENSHOTS names a folder.
func (tab *Tab) Screenshot(name string) {
	tab.t.Helper()
	folder := os.Getenv(screenshots)
	if folder == "" {
		return
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		tab.t.Fatal(err)
	}
	for _, view := range []struct {
		name, scheme  string
		width, height int64
	}{
		{"desktop", "light", 1000, 700},
		{"desktop", "dark", 1000, 700},
		{"phone", "light", 360, 640},
		{"phone", "dark", 360, 640},
	} {
		tab.do("setting the size", chromedp.EmulateViewport(view.width, view.height))
		tab.colorScheme(view.scheme)
		png, err := chromedp.Run(tab.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			tab.t.Fatalf("taking a screenshot: %v", err)
		}
		file := filepath.Join(folder, name+"-"+view.name+"-"+view.scheme+".png")
		if err := os.WriteFile(file, png, 0o644); err != nil {
			tab.t.Fatal(err)
		}
	}
	tab.colorScheme("")
	tab.do("resetting the size", chromedp.EmulateReset())
}

// colorScheme has the page believe that its reader prefers these colours.
func (tab *Tab) colorScheme(scheme string) {
	tab.t.Helper()
	media := emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}
	if _, err := chromedp.Call(tab.ctx, emulation.SetEmulatedMedia, media); err != nil {
		tab.t.Fatalf("setting the colour scheme: %v", err)
	}
}
