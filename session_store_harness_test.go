package openidconnect

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap/zapcore"
	zapobserver "go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// folderStorage is Caddy's storage in a folder of a test, and can be told to fail.
type folderStorage struct {
	certmagic.FileStorage
	noLoad, noStore, panics atomic.Bool
	stored                  atomic.Int64
}

func newFolderStorage(t *testing.T) *folderStorage {
	t.Helper()
	return &folderStorage{FileStorage: certmagic.FileStorage{Path: storageFolder(t)}}
}

var errStorage = errors.New("the disk is on fire")

func (s *folderStorage) Load(ctx context.Context, key string) ([]byte, error) {
	switch {
	case s.panics.Load():
		panic(errStorage)
	case s.noLoad.Load():
		return nil, errStorage
	}
	return s.FileStorage.Load(ctx, key)
}

func (s *folderStorage) Store(ctx context.Context, key string, value []byte) error {
	if s.noStore.Load() {
		return errStorage
	}
	s.stored.Add(1)
	return s.FileStorage.Store(ctx, key, value)
}

// unfinished is the name of a file that is being written: it gets its own once it is complete.
var unfinished = regexp.MustCompile(`^[0-9]+$`)

// files returns the contents of all files that are no locks, by name.
func (s *folderStorage) files(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(filepath.Join(s.Path, folder), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() || strings.Contains(path, "locks") || unfinished.MatchString(entry.Name()) {
			return err
		}
		files[path] = readFile(t, path)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// usedStorage is for the next storageModule to be loaded.
var usedStorage certmagic.Storage

// storageModule is a storage that a test has made.
type storageModule struct{ certmagic.Storage }

func init() {
	caddy.RegisterModule(storageModule{})
}

func (storageModule) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.openid_connect_test", New: func() caddy.Module { return &storageModule{usedStorage} }}
}

func (m storageModule) CertMagicStorage() (certmagic.Storage, error) { return m.Storage, nil }

// instanceStorage is a storage under another name, by which what one process keeps of sessions is told from what another does.
type instanceStorage struct {
	certmagic.Storage
	name string
}

func (s instanceStorage) String() string { return s.name }

// newSiteOn starts a site that logs browsers in at p, with a storage of its own. Sites with other settings, such as timeout, have nothing
// else in common with each other, as if each were in a process of its own.
func newSiteOn(t *testing.T, storage certmagic.Storage, p *optest.Provider, settings string) *site {
	t.Helper()
	for _, standard := range []string{"client_secret secret", "client_id client", "issuer " + p.Issuer()} {
		settings = standard + "\n" + settings
	}
	h, err := parse(settings)
	if err != nil {
		t.Fatal(err)
	}
	core, logs := zapobserver.New(zapcore.DebugLevel)
	err = func() error {
		provisioning.Lock()
		defer provisioning.Unlock()
		observedCore, usedStorage = core, instanceStorage{storage, fmt.Sprintf("%p %s", storage, settings)}
		ctx, err := caddy.ProvisionContext(&caddy.Config{
			Admin:      &caddy.AdminConfig{Disabled: true},
			StorageRaw: json.RawMessage(`{"module": "openid_connect_test"}`),
			Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{
				WriterRaw: json.RawMessage(`{"output": "discard"}`), CoreRaw: json.RawMessage(`{"module": "openid_connect_test"}`), Level: "DEBUG",
			}}}},
		})
		if err != nil {
			return err
		}
		return h.Provision(ctx)
	}()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{recorder: new(recorder), t: t, handler: h, logs: logs}
	s.server = httptest.NewUnstartedServer(s)
	s.server.Config.Protocols = new(http.Protocols)
	s.server.Config.Protocols.SetHTTP1(true)
	s.server.Config.Protocols.SetUnencryptedHTTP2(true)
	s.server.Start()
	t.Cleanup(func() {
		s.server.Close()
		h.rest()
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
		wantSilence(t, p, s)
	})
	return s
}

// at returns the same person, with the same browser, at another site.
func (v *visitor) at(s *site) *visitor {
	moved := *v
	moved.site, moved.upstream, moved.origin = s.in(v.t), s.recorder, s.server.URL
	return &moved
}

// finishAt comes back from the provider to another site than the one where the login has begun.
func (v *visitor) finishAt(s *site, request map[string][]string) *optest.Response {
	v.t.Helper()
	return v.Get(s.server.URL+"/oauth2/callback?"+v.answerTo(request).Encode(), linked...)
}

// wantStoreFailure checks what browsers and programs get while sessions cannot be read.
func (v *visitor) wantStoreFailure() {
	v.t.Helper()
	kept := len(v.kept(isSessionName))
	page := v.open("/page")
	v.wantPage(page, http.StatusServiceUnavailable, "store_unavailable")
	refused := v.Get(v.url("/data"), "Accept: application/json")
	v.wantRefusal(refused, http.StatusServiceUnavailable, "store_unavailable")
	for _, r := range []*optest.Response{page, refused} {
		if r.Header.Get("Retry-After") == "" {
			v.t.Error("there is no Retry-After")
		}
	}
	if now := len(v.kept(isSessionName)); now != kept {
		v.t.Errorf("the browser has %d cookies of its session, had %d", now, kept)
	}
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func removeFolder(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

// manyGroups are names that cannot be compressed to nothing.
func manyGroups(n int) []string {
	groups := make([]string, n)
	for i := range groups {
		groups[i] = rand.Text()
	}
	return groups
}
