package openidconnect

import (
	"context"
	"time"
)

// settlePoll is how often a process that ends looks whether it may.
const settlePoll = 20 * time.Millisecond

// inBackground runs what has to be done before the process may end.
func (s *renewals) inBackground(work func()) {
	s.mu.Lock()
	s.busy++
	s.mu.Unlock()
	go func() {
		defer func() {
			s.mu.Lock()
			s.busy--
			s.mu.Unlock()
		}()
		work()
	}()
}

// settle waits until nothing is under way any more, but not for long.
func (s *renewals) settle(ctx context.Context) {
	again := time.NewTicker(settlePoll)
	defer again.Stop()
	for {
		s.mu.Lock()
		busy := s.busy
		s.mu.Unlock()
		if busy == 0 {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}
