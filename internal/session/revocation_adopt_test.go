package session

import (
	"testing"
	"time"
)

// What one list has is in force in another that adopts it, at once, and reaches the other's backend.
func TestRevocationsAdopt(t *testing.T) {
	t.Parallel()
	now := testNow()
	old := NewRevocations(RevocationsConfig{})
	sess := &Session{ID: [16]byte{1}, Subject: "alice"}
	if err := old.Add(t.Context(), now, Revocation{Owner: testOwner, ID: sess.ID, Until: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	backend := NewCaddyBackend(newMemoryStorage(), time.Now, nil)
	list := NewRevocations(RevocationsConfig{Backend: backend})
	version := list.Version()
	if list.Touches(testOwner, sess, now) {
		t.Fatal("it is known before it is adopted")
	}
	list.Adopt(old, now)
	if !list.Touches(testOwner, sess, now) || list.Version() == version {
		t.Error("what was adopted is not in force")
	}
	list.Adopt(NewRevocations(RevocationsConfig{}), now)
	other := func() bool {
		r := NewRevocations(RevocationsConfig{Backend: backend})
		r.Refresh(t.Context(), now)
		return r.Touches(testOwner, sess, now)
	}
	if other() {
		t.Fatal("it was written before that was asked for")
	}
	for range 2 { // the second time there is nothing to write
		if err := list.WriteAdopted(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if !other() {
			t.Error("what was adopted is not in the backend")
		}
	}
}

// A subject without a sid is narrower than the subject.
func TestRevocationWithoutSID(t *testing.T) {
	t.Parallel()
	now := testNow()
	named := &Session{ID: [16]byte{1}, Subject: "alice", SID: "one", Created: now, IDTokenIssued: now}
	unnamed := &Session{ID: [16]byte{2}, Subject: "alice", Created: now, IDTokenIssued: now}
	later := &Session{ID: [16]byte{3}, Subject: "alice", Created: now, IDTokenIssued: now.Add(time.Minute)}
	r := NewRevocations(RevocationsConfig{})
	err := r.Add(t.Context(), now, Revocation{Owner: testOwner, Subject: "alice", WithoutSID: true, Issued: now, Until: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Touches(testOwner, unnamed, now) || r.Touches(testOwner, named, now) || r.Touches(testOwner, later, now) {
		t.Error("it touches others than the sessions without a sid")
	}
}

// How long sessions live is known to all on a backend, and never lowered.
func TestRevocationsLife(t *testing.T) {
	t.Parallel()
	backend := NewCaddyBackend(newMemoryStorage(), time.Now, nil)
	one := NewRevocations(RevocationsConfig{Backend: backend})
	for i, step := range []struct{ noted, want time.Duration }{
		{0, 0}, {time.Hour, time.Hour}, {48 * time.Hour, 48 * time.Hour}, {time.Hour, 48 * time.Hour}, {1000 * 24 * time.Hour, longestSession},
	} {
		if err := one.NoteLife(t.Context(), testOwner, step.noted, testNow()); err != nil {
			t.Fatal(err)
		}
		for _, asked := range []*Revocations{one, NewRevocations(RevocationsConfig{Backend: backend})} {
			if got, err := asked.Life(t.Context(), testOwner); err != nil || got != step.want {
				t.Errorf("step %d: got %v and %v, want %v", i, got, err, step.want)
			}
		}
	}
	if got, err := one.Life(t.Context(), Owner{Issuer: "another"}); err != nil || got != 0 {
		t.Errorf("another owner's: %v and %v", got, err)
	}
	if err := backend.Store(t.Context(), testOwner.lifeKey(), []byte("nonsense"), testNow()); err != nil {
		t.Fatal(err)
	}
	if got, err := NewRevocations(RevocationsConfig{Backend: backend}).Life(t.Context(), testOwner); err != nil || got != longestSession {
		t.Errorf("nonsense: %v and %v", got, err)
	}
}
