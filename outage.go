package openidconnect

import "time"

const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
)

// backOff is how long to wait after so many failures in a row.
func backOff(failures int) time.Duration {
	return min(firstPause<<min(failures-1, 10), maxPause)
}

const (
	// toleratedFailures is how many sessions may fail, with none renewed in between, before that says something about the provider.
	toleratedFailures = 2
	// maxProbes bounds the renewals under way while the provider does not answer.
	maxProbes = 16
	// longestRetryAfter is what a provider can ask for; what is later than that was written by a clock that is wrong.
	longestRetryAfter = 10 * time.Minute
	// maxSharedPause is for how long at most others wait because the provider has asked some to.
	maxSharedPause = time.Minute
)

// providerOutage keeps all sessions from waiting for a provider that does not answer any of them. One that has not failed itself tries every
// second, and one of those that have, with increasing pauses: nobody who always fails can take the others' turn.
type providerOutage struct {
	failures  int // in a row, of whichever sessions
	failing   int // sessions that have begun to fail since one was renewed
	limited   int // of them asked to wait
	waitUntil time.Time
	probeAt   time.Time // by a session that has not failed
	retries   int
	retryAt   time.Time // by one that has
	trying    int       // under way
}

func (o *providerOutage) isOn() bool { return o.failing > toleratedFailures }

// admit counts a renewal that may begin, or returns until when to wait. failed says that the session has failed before.
func (o *providerOutage) admit(failed bool, now time.Time) (until time.Time) {
	switch {
	case !failed && now.Before(o.waitUntil):
		return o.waitUntil
	case !o.isOn():
	case o.trying >= maxProbes:
		return now.Add(firstPause)
	case failed && now.Before(o.retryAt):
		return o.retryAt
	case failed:
		o.retries++
		o.retryAt = now.Add(backOff(o.retries))
	case now.Before(o.probeAt):
		return o.probeAt
	default:
		o.probeAt = now.Add(firstPause)
	}
	o.trying++
	return time.Time{}
}

// fail counts a session that could not be renewed for want of the provider. first says that it has only begun to fail.
func (o *providerOutage) fail(first bool, retryAfter time.Duration, now time.Time) {
	o.failures++
	if !first {
		return
	}
	o.failing++
	if retryAfter == 0 {
		return
	}
	if o.limited++; o.limited > 1 {
		o.waitUntil = later(o.waitUntil, now.Add(min(retryAfter, maxSharedPause)))
	}
}

// end forgets all but what is under way, and reports whether there was more than what happens now and then.
func (o *providerOutage) end() bool {
	was := o.failures > toleratedFailures
	*o = providerOutage{trying: o.trying}
	return was
}

// storageFails notes that what instances share cannot be reached, and storageFailing reports whether that was so just now.
func (s *renewals) storageFails(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.storageAt = now.Add(storagePause)
}

func (s *renewals) storageFailing(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.storageAt)
}

// answered notes that the provider works, and reports whether that is news.
func (s *renewals) answered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.outage.end() && s.outageTold
	s.outageTold = false
	return told
}

// mayTellOutage, mayTellStore, mayTellRevocations and mayWarn report whether it is time to tell of trouble with the provider, with the store of
// sessions, with the list of those that have ended, or with what renewals need of a storage.
func (s *renewals) mayTellOutage(now time.Time) bool {
	may := s.mayTell(&s.toldOutage, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outageTold = s.outageTold || may
	return may
}

func (s *renewals) mayTellStore(now time.Time) bool { return s.mayTell(&s.toldStore, now) }

func (s *renewals) mayWarn(now time.Time) bool { return s.mayTell(&s.warnedOfStorage, now) }

func (s *renewals) mayTellRevocations(now time.Time) bool { return s.mayTell(&s.toldRevocations, now) }

func (s *renewals) mayTell(told *time.Time, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !told.IsZero() && now.Sub(*told) < tellEvery {
		return false
	}
	*told = now
	return true
}
