// Package hydra runs an ORY Hydra on 127.0.0.1 for tests, and the pages for logins that Hydra leaves to its users. It needs Go and a
// C compiler to build Hydra the first time.
package hydra

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/subprocess"
)

// Version is that of Hydra, as go.mod below [source] has it.
const Version = "v2.3.0"

const (
	module = "github.com/ory/hydra/v2"
	// source is the module that pins what Hydra is built of, seen from the directory of the tests.
	source = "hydra/server"
	// tags are those that Hydra needs to keep its data in memory.
	tags = "sqlite,sqlite_omit_load_extension,json1"
)

// install returns where the command is. What the first call builds, which takes minutes, stays in the user's cache directory.
func install() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "caddy-openid-connect-e2e")
	binary := filepath.Join(cache, "hydra-"+Version)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, "hydra-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	built := filepath.Join(work, "hydra")
	build := func() *exec.Cmd {
		c := exec.Command("go", "build", "-tags", tags, "-ldflags", "-s -w -X "+module+"/driver/config.Version="+Version, "-o", built, module)
		c.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=-mod=readonly", "GOWORK=off")
		return c
	}
	if output, err := subprocess.Fetch(source, build); err != nil {
		return "", fmt.Errorf("building Hydra, which these tests need: %w\n%s", err, output)
	}
	return binary, os.Rename(built, binary)
}
