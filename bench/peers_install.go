package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

const (
	caddyModule       = "github.com/caddyserver/caddy/v2"
	oauth2ProxyModule = "github.com/oauth2-proxy/oauth2-proxy/v7"
)

// apachePackages are Debian's. The first is the server without the service that the package apache2 would start.
var apachePackages = []string{"apache2-bin", "libapache2-mod-auth-openidc"}

// installPeers makes sure that the peers are there: Apache with its module from Debian's packages, oauth2-proxy built into the cache of
// the user.
func (r *run) installPeers(ctx context.Context) error {
	_, errProgram := os.Stat(apacheProgram)
	_, errModule := os.Stat(filepath.Join(apacheModules, "mod_auth_openidc.so"))
	if errProgram != nil || errModule != nil {
		args := append([]string{"install", "--yes", "--no-install-recommends"}, apachePackages...)
		fmt.Fprintf(r.progress, "apt-get %s\n", strings.Join(args, " "))
		install := exec.CommandContext(ctx, "apt-get", args...)
		install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := install.CombinedOutput(); err != nil {
			return fmt.Errorf("installing %s, which takes root and current package lists: %w\n%s", strings.Join(apachePackages, " and "), err, output)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	r.oauth2Proxy = filepath.Join(cache, "caddy-openid-connect-bench", "oauth2-proxy")
	fmt.Fprintf(r.progress, "building oauth2-proxy in %s\n", r.oauth2Proxy)
	build := exec.CommandContext(ctx, "go", "build", "-C", "oauth2-proxy", "-o", r.oauth2Proxy, oauth2ProxyModule)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building oauth2-proxy: %w", err)
	}
	return nil
}

// machine is where the measurement was made, and with what.
type machine struct {
	processor string
	cores     int
	system    string
	versions  []version
}

type version struct{ what, number string }

// inspect finds out about the machine and the programs.
func (r *run) inspect(ctx context.Context) (machine, error) {
	caddy, compiler, errCaddy := builtFrom(r.gateway, caddyModule)
	proxy, _, errProxy := builtFrom(r.oauth2Proxy, oauth2ProxyModule)
	processors, errProcessors := os.ReadFile("/proc/cpuinfo")
	system, errSystem := os.ReadFile("/etc/os-release")
	apache, errApache := debianVersion(ctx, "apache2-bin")
	module, errModule := debianVersion(ctx, "libapache2-mod-auth-openidc")
	redis, errRedis := debianVersion(ctx, "redis-server")
	wrk, errWrk := debianVersion(ctx, "wrk")
	m := machine{
		processor: valueOf(string(processors), "model name", ":"),
		cores:     runtime.NumCPU(),
		system:    fmt.Sprintf("%s, %s", strings.Trim(valueOf(string(system), "PRETTY_NAME", "="), `"`), runtime.GOARCH),
		versions: []version{
			{"Caddy", caddy},
			{"Go, for Caddy and oauth2-proxy", compiler},
			{"Apache", apache},
			{"mod_auth_openidc", module},
			{"oauth2-proxy", proxy},
			{"Redis", redis},
			{"wrk", wrk},
		},
	}
	return m, errors.Join(errCaddy, errProxy, errProcessors, errSystem, errApache, errModule, errRedis, errWrk)
}

// builtFrom reads in a program of which version of a module it is, and by which Go it was built.
func builtFrom(program, module string) (number, compiler string, err error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", "", err
	}
	modules := append([]*debug.Module{&info.Main}, info.Deps...)
	i := slices.IndexFunc(modules, func(m *debug.Module) bool { return m.Path == module })
	if i < 0 {
		return "", "", fmt.Errorf("%s has nothing of %s", program, module)
	}
	return modules[i].Version, info.GoVersion, nil
}

// debianVersion asks which version of a package is installed; it is "not a package" if the program came in another way.
func debianVersion(ctx context.Context, name string) (string, error) {
	output, err := exec.CommandContext(ctx, "dpkg-query", "--show", "--showformat", "${Version}", name).Output()
	if _, exited := errors.AsType[*exec.ExitError](err); exited {
		return "not a package", nil
	}
	return string(output), err
}

// valueOf reads a file of lines with a name and a value each.
func valueOf(text, name, separator string) string {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, separator); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
