package cluster

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// program is the Caddy of all gateways.
var program string

// How long a storm lasts, and how long the provider is away.
var stormLength, outageLength time.Duration

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if stormLength, err = lengthFrom("E2E_STORM", 20*time.Second); err != nil {
		return 0, err
	}
	if outageLength, err = lengthFrom("E2E_OUTAGE", 10*time.Second); err != nil {
		return 0, err
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		return 0, fmt.Errorf("these tests need redis-server, which Debian has in the package of that name: %w", err)
	}
	directory, err := os.MkdirTemp("", "cluster-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(directory)
	if program, err = Build(context.Background(), directory); err != nil {
		return 0, err
	}
	// Those that run in parallel mostly wait.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		if err := parallel.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))); err != nil {
			return 0, err
		}
	}
	return m.Run(), nil
}

// lengthFrom reads a duration from an environment variable, if that is set.
func lengthFrom(variable string, length time.Duration) (time.Duration, error) {
	text := os.Getenv(variable)
	if text == "" {
		return length, nil
	}
	length, err := time.ParseDuration(text)
	if err == nil && length < 5*time.Second {
		err = fmt.Errorf("%s is less than 5s", length)
	}
	if err != nil {
		return 0, fmt.Errorf("the environment variable %s: %w", variable, err)
	}
	return length, nil
}
