package session

import (
	"context"
	"math"
	"testing"
	"time"
)

func TestRevocationTouches(t *testing.T) {
	t.Parallel()
	now := testNow()
	until := now.Add(24 * time.Hour)
	second := func(n int) time.Time { return now.Add(time.Duration(n) * time.Second) }
	sess := func(edit func(*Session)) *Session {
		s := &Session{ID: [16]byte{1}, Subject: "alice", SID: "one", Created: now, IDTokenIssued: second(-1)}
		if edit != nil {
			edit(s)
		}
		return s
	}
	for name, test := range map[string]struct {
		revoked Revocation
		sess    *Session
		want    bool
	}{
		"ID":                  {Revocation{ID: [16]byte{1}}, sess(nil), true},
		"ID of another owner": {Revocation{Owner: Owner{"x", "y"}, ID: [16]byte{1}}, sess(nil), true},
		"another ID":          {Revocation{ID: [16]byte{2}}, sess(nil), false},
		"ID with bounds":      {Revocation{ID: [16]byte{1}, Created: second(-9)}, sess(nil), true},

		"SID made before":     {Revocation{Owner: testOwner, SID: "one", Created: second(1)}, sess(nil), true},
		"SID made then":       {Revocation{Owner: testOwner, SID: "one", Created: now}, sess(nil), true},
		"SID made after":      {Revocation{Owner: testOwner, SID: "one", Created: second(-1)}, sess(nil), false},
		"SID issued before":   {Revocation{Owner: testOwner, SID: "one", Issued: now}, sess(nil), true},
		"SID issued then":     {Revocation{Owner: testOwner, SID: "one", Issued: second(-1)}, sess(nil), true},
		"SID issued after":    {Revocation{Owner: testOwner, SID: "one", Issued: second(-2)}, sess(nil), false},
		"SID, one of both":    {Revocation{Owner: testOwner, SID: "one", Created: second(-9), Issued: now}, sess(nil), true},
		"SID, none of both":   {Revocation{Owner: testOwner, SID: "one", Created: second(-9), Issued: second(-9)}, sess(nil), false},
		"SID without bounds":  {Revocation{Owner: testOwner, SID: "one"}, sess(nil), false},
		"another SID":         {Revocation{Owner: testOwner, SID: "two", Created: now}, sess(nil), false},
		"SID as subject":      {Revocation{Owner: testOwner, SID: "alice", Created: now}, sess(nil), false},
		"SID, another issuer": {Revocation{Owner: Owner{"x", testOwner.ClientID}, SID: "one", Created: now}, sess(nil), false},
		"SID, another client": {Revocation{Owner: Owner{testOwner.Issuer, "x"}, SID: "one", Created: now}, sess(nil), false},
		"fraction of the second": {
			Revocation{Owner: testOwner, SID: "one", Created: now}, sess(func(s *Session) { s.Created = now.Add(999 * time.Millisecond) }), true,
		},

		"subject made then":     {Revocation{Owner: testOwner, Subject: "alice", Created: now}, sess(nil), true},
		"subject issued then":   {Revocation{Owner: testOwner, Subject: "alice", Issued: second(-1)}, sess(nil), true},
		"subject issued after":  {Revocation{Owner: testOwner, Subject: "alice", Issued: second(-2)}, sess(nil), false},
		"another subject":       {Revocation{Owner: testOwner, Subject: "bob", Created: now}, sess(nil), false},
		"subject as SID":        {Revocation{Owner: testOwner, Subject: "one", Created: now}, sess(nil), false},
		"subject before 1970":   {Revocation{Owner: testOwner, Subject: "alice", Created: time.Unix(-5, 0)}, sess(nil), false},
		"subject, late for all": {Revocation{Owner: testOwner, Subject: "alice", Created: time.Unix(math.MaxInt32*3, 0)}, sess(nil), true},

		"issued is not known, made before": {
			Revocation{Owner: testOwner, Subject: "alice", Issued: now}, sess(func(s *Session) { s.IDTokenIssued = time.Time{} }), true,
		},
		"issued is not known, made after": {
			Revocation{Owner: testOwner, Subject: "alice", Issued: second(-1)}, sess(func(s *Session) { s.IDTokenIssued = time.Time{} }), false,
		},

		"no name":   {Revocation{Owner: testOwner, Created: now}, sess(func(s *Session) { s.SID, s.Subject = "", "" }), false},
		"two names": {Revocation{Owner: testOwner, SID: "one", Subject: "alice", Created: now}, sess(nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := NewRevocations(RevocationsConfig{})
			test.revoked.Until = until
			if err := r.Add(t.Context(), now, test.revoked); err != nil {
				t.Fatal(err)
			}
			if got := r.Touches(testOwner, test.sess, now); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// A revocation counts until all that it could touch has ended, and no longer than a session can live.
func TestRevocationUntil(t *testing.T) {
	t.Parallel()
	now := testNow().Add(300 * time.Millisecond)
	sess := &Session{ID: [16]byte{1}}
	for name, test := range map[string]struct{ until, last time.Time }{
		"as it says":            {now.Add(time.Hour), now.Add(time.Hour)},
		"it does not say":       {time.Time{}, now.Add(longestSession)},
		"later than that":       {now.Add(10 * longestSession), now.Add(longestSession)},
		"a fraction of it left": {now.Add(time.Millisecond), now.Add(time.Millisecond)},
	} {
		r := NewRevocations(RevocationsConfig{})
		if err := r.Add(t.Context(), now, Revocation{ID: sess.ID, Until: test.until}); err != nil {
			t.Fatal(err)
		}
		for after, want := range map[time.Duration]bool{-time.Millisecond: true, time.Second: false} {
			if got := r.Touches(Owner{}, sess, test.last.Add(after)); got != want {
				t.Errorf("%s: %v after its end: %v, want %v", name, after, got, want)
			}
		}
	}
	r := NewRevocations(RevocationsConfig{})
	version := r.Version()
	if err := r.Add(t.Context(), now, Revocation{ID: sess.ID, Until: now.Add(-time.Second)}, Revocation{ID: [16]byte{2}, Until: now.Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if r.Len() != 0 || r.Version() != version {
		t.Errorf("%d that are over are kept", r.Len())
	}
}

// The same name again keeps the later of each bound, and what says nothing new changes nothing.
func TestRevocationAgain(t *testing.T) {
	t.Parallel()
	now := testNow()
	r := NewRevocations(RevocationsConfig{})
	add := func(created, issued, until int) (changed bool) {
		t.Helper()
		version := r.Version()
		at := func(n int) time.Time {
			if n == 0 {
				return time.Time{}
			}
			return now.Add(time.Duration(n) * time.Second)
		}
		err := r.Add(t.Context(), now, Revocation{Owner: testOwner, SID: "one", Created: at(created), Issued: at(issued), Until: at(until)})
		if err != nil || r.Len() != 1 {
			t.Fatal(err, r.Len())
		}
		return r.Version() != version
	}
	for i, step := range []struct {
		created, issued, until int
		changed                bool
	}{
		{-20, 0, 60, true},
		{-20, 0, 60, false},
		{-30, 0, 50, false},
		{0, -10, 50, true},
		{-15, -20, 10, true},
		{-15, -10, 60, false},
		{-15, -10, 61, true},
	} {
		if changed := add(step.created, step.issued, step.until); changed != step.changed {
			t.Errorf("step %d: changed is %v", i, changed)
		}
	}
	touches := func(created, issued int, after time.Duration) bool {
		return r.Touches(testOwner, &Session{
			SID: "one", Created: now.Add(time.Duration(created) * time.Second), IDTokenIssued: now.Add(time.Duration(issued) * time.Second),
		}, now.Add(after))
	}
	if !touches(-15, 0, 0) || touches(-14, -9, 0) || !touches(0, -10, 0) {
		t.Error("the bounds are not the latest of each")
	}
	if !touches(-15, 0, 60*time.Second) || touches(-15, 0, 61*time.Second) {
		t.Error("the end is not the latest")
	}
}

// A version that was read before a session was looked at changes with what touches the session.
func TestRevocationsVersion(t *testing.T) {
	t.Parallel()
	r := NewRevocations(RevocationsConfig{})
	first := r.Version()
	ctx, cancel := context.WithCancel(t.Context())
	sess, until := &Session{ID: numberedID(4999)}, testNow().Add(time.Hour)
	go func() {
		defer cancel()
		for n := range 5000 {
			if err := r.Add(t.Context(), testNow(), numbered(n, until)); err != nil {
				t.Error(err)
			}
		}
	}()
	version, touched := uint64(0), false
	for ctx.Err() == nil {
		version = r.Version()
		touched = r.Touches(testOwner, sess, testNow())
	}
	if now := r.Version(); now != first+5000 || !touched && version == now {
		t.Errorf("version %d, %d when it was looked at: %v", now, version, touched)
	}
}
