package session

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"
)

// Revocation names sessions that have ended before their time: one by its ID, those that the provider calls by a sid, or those
// of a subject.
type Revocation struct {
	Owner Owner

	// ID is that of one session. Where it is zero, SID or Subject is set, and not both.
	ID           [16]byte
	SID, Subject string

	// WithoutSID narrows Subject to sessions that the provider has given no sid.
	WithoutSID bool

	// Created and Issued bound what SID and Subject touch: sessions that were made not after Created, or whose first ID token was
	// issued not after Issued. Zero touches none. Where an ID token did not say when it was issued, the session's making counts.
	Created, Issued time.Time

	// Until is when every session that it could touch has ended. Zero is as late as that can be.
	Until time.Time
}

// longestSession is what no session outlives: browsers keep no cookie for over 400 days, and clocks differ.
const longestSession = 401 * 24 * time.Hour

// revocationKey names what is revoked, by a hash: the list is written where others may read it.
type revocationKey [16]byte

// The kinds of names. They are part of what is written: never change one.
const (
	revokedID      = 'i'
	revokedSID     = 's'
	revokedSubject = 'u'
	revokedUnnamed = 'n' // a subject, for sessions without a sid
)

func (r *Revocation) key() (_ revocationKey, ok bool) {
	switch {
	case r.ID != [16]byte{}:
		return sessionKey(r.ID), true
	case r.SID != "" && r.Subject == "":
		return r.Owner.revocationKey(revokedSID, r.SID), true
	case r.Subject != "" && r.SID == "" && r.WithoutSID:
		return r.Owner.revocationKey(revokedUnnamed, r.Subject), true
	case r.Subject != "" && r.SID == "":
		return r.Owner.revocationKey(revokedSubject, r.Subject), true
	default:
		return revocationKey{}, false
	}
}

func sessionKey(id [16]byte) revocationKey {
	text := [17]byte{0: revokedID}
	copy(text[1:], id[:])
	sum := sha256.Sum256(text[:])
	return revocationKey(sum[:16])
}

// revocationKey writes each text after its length, so that no two lists of texts give the same.
func (o Owner) revocationKey(kind byte, name string) revocationKey {
	var buffer [256]byte // on the stack
	texts := append(buffer[:0], kind)
	for _, text := range [...]string{o.Issuer, o.ClientID, name} {
		texts = binary.AppendUvarint(texts, uint64(len(text)))
		texts = append(texts, text...)
	}
	sum := sha256.Sum256(texts)
	return revocationKey(sum[:16])
}

// revocationEntry is what is kept of a revocation, in seconds since 1970, rounded as [Session] rounds them. Zero is none.
type revocationEntry struct{ created, issued, until uint32 }

// entry returns what is kept of a revocation, and whether it still matters.
func (r *Revocation) entry(now time.Time) (_ revocationEntry, ok bool) {
	latest := now.Add(longestSession)
	until := r.Until
	if until.IsZero() || until.After(latest) {
		until = latest
	}
	entry := revocationEntry{until: wholeSeconds(until.Add(time.Second - 1))} // never too early
	if r.ID == [16]byte{} {
		entry.created, entry.issued = wholeSeconds(r.Created), wholeSeconds(r.Issued)
		ok = entry.created != 0 || entry.issued != 0
	} else {
		ok = true
	}
	return entry, ok && !entry.over(now)
}

func wholeSeconds(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}

// over says that all sessions that it could touch have ended.
func (e revocationEntry) over(now time.Time) bool { return now.Unix() >= int64(e.until) }

// covers says that the other one adds nothing.
func (e revocationEntry) covers(other revocationEntry) bool {
	return e.created >= other.created && e.issued >= other.issued && e.until >= other.until
}

// with returns what two entries for the same name say together.
func (e revocationEntry) with(other revocationEntry) revocationEntry {
	return revocationEntry{max(e.created, other.created), max(e.issued, other.issued), max(e.until, other.until)}
}

// touches says whether a session with the entry's sid or subject is among those that have ended.
func (e revocationEntry) touches(sess *Session) bool {
	created := sess.Created.Unix()
	issued := created
	if !sess.IDTokenIssued.IsZero() {
		issued = sess.IDTokenIssued.Unix()
	}
	return e.created != 0 && created <= int64(e.created) || e.issued != 0 && issued <= int64(e.issued)
}
