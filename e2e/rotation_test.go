package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// keyID reads the kid of a JWT.
func keyID(token string) (string, error) {
	header, err := base64.RawURLEncoding.DecodeString(strings.SplitN(token, ".", 2)[0])
	if err != nil {
		return "", err
	}
	var h struct {
		KeyID string `json:"kid"`
	}
	if err := json.Unmarshal(header, &h); err != nil {
		return "", err
	}
	return h.KeyID, nil
}

// TestKeyRotation has clients that fetch a token for each request while the provider changes its signing key. None of
// them may notice.
func TestKeyRotation(t *testing.T) {
	const (
		workers = 4
		enough  = 40 // accepted requests, before the rotation and after it
	)
	eachProvider(t, func(t *testing.T, p identityProvider) {
		s := load(t, p.issuer(), "audience "+apiAudience, "required_scopes orders:read")
		old := mustFetch(t, p, reader)
		oldKey, err := keyID(old)
		if err != nil {
			t.Fatal(err)
		}
		s.expect(t, "a token before it all", old, "200", "")

		var (
			withOldKey, withNewKey atomic.Int64
			done                   = make(chan struct{})
			failures               = make(chan error, workers)
			running                sync.WaitGroup
		)
		request := func() error {
			token, err := fetch(t.Context(), p.issuer(), reader)
			if err != nil {
				return err
			}
			key, err := keyID(token)
			if err != nil {
				return err
			}
			answer, err := s.request(token).Do(t.Context())
			if err != nil {
				return err
			}
			if answer.Outcome() != "200" {
				return fmt.Errorf("refused: %s\n%s", answer.Outcome(), answer.Body)
			}
			if key == oldKey {
				withOldKey.Add(1)
			} else {
				withNewKey.Add(1)
			}
			return nil
		}
		for range workers {
			running.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					if err := request(); err != nil {
						failures <- err
						return
					}
				}
			})
		}
		reached := func(count *atomic.Int64) func() bool {
			return func() bool { return count.Load() >= enough || len(failures) > 0 }
		}
		eventually(t, "requests before the rotation", 30*time.Second, reached(&withOldKey))
		p.rotate(t)
		eventually(t, "requests after the rotation", 30*time.Second, reached(&withNewKey))
		close(done)
		running.Wait()
		close(failures)
		for err := range failures {
			t.Error(err)
		}
		t.Logf("%d requests with the old key, %d with the new one", withOldKey.Load(), withNewKey.Load())

		s.expect(t, "a token signed before the rotation", old, "200", "")
	})
}
