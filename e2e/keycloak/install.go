// Package keycloak runs a Keycloak on 127.0.0.1 for tests. It needs Java 17 or later, and Maven to fetch it the first time.
package keycloak

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/subprocess"
)

// The distribution, as Maven Central publishes it, and the SHA-256 of its archive.
const (
	// Version is that of Keycloak.
	Version  = "26.7.3"
	checksum = "77657f30b7e90d70f727712ce1c967f430fd6a5e9f458d32d8c6df0635345f47"

	mavenPlugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get"
)

// install returns where Keycloak is, ready to be copied and started. What the first call fetches and builds stays in the
// user's cache directory.
func install() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "caddy-openid-connect-e2e")
	home := filepath.Join(cache, "keycloak-"+Version)
	if _, err := os.Stat(home); err == nil {
		return home, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, "keycloak-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := prepare(work); err != nil {
		return "", err
	}
	// All at once, so that nobody finds half of it. Another run may have been faster.
	if err := os.Rename(filepath.Join(work, "keycloak-"+Version), home); err != nil {
		if _, statErr := os.Stat(home); statErr != nil {
			return "", err
		}
	}
	return home, nil
}

// prepare fetches, checks, unpacks and builds Keycloak in a directory.
func prepare(work string) error {
	repository := filepath.Join(work, "maven")
	fetch := func() *exec.Cmd {
		return exec.Command("mvn", "--quiet", "--batch-mode", "--update-snapshots", "-Dmaven.repo.local="+repository, mavenPlugin,
			"-Dtransitive=false", "-Dartifact=org.keycloak:keycloak-quarkus-dist:"+Version+":tar.gz")
	}
	if output, err := subprocess.Fetch(work, fetch); err != nil {
		return fmt.Errorf("fetching Keycloak with Maven: %w\n%s", err, output)
	}
	archive := filepath.Join(repository, "org", "keycloak", "keycloak-quarkus-dist", Version,
		"keycloak-quarkus-dist-"+Version+".tar.gz")
	if err := verify(archive); err != nil {
		return err
	}
	if err := run(work, "tar", "-xzf", archive); err != nil {
		return err
	}
	// What is chosen here need not be worked out at each start.
	return run(filepath.Join(work, "keycloak-"+Version), filepath.Join("bin", "kc.sh"), "build", "--db=dev-mem")
}

// verify compares an archive with the checksum.
func verify(archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return fmt.Errorf("reading %s: %w", archive, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != checksum {
		return fmt.Errorf("the SHA-256 of %s is %s, want %s", filepath.Base(archive), got, checksum)
	}
	return nil
}

func run(directory, name string, arguments ...string) error {
	command := exec.Command(name, arguments...)
	command.Dir = directory
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("preparing Keycloak with %s: %w\n%s", name, err, output)
	}
	return nil
}
