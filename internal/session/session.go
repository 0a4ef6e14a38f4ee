// Package session has everything that is kept between requests: the session itself and the login that is under way, the
// seal that lets a browser keep them, the keys of that seal, the cookies that carry them, and the stores for sessions that
// stay on the server.
//
// It is the only package that imports ciphers and the only one that writes Set-Cookie.
package session

import (
	"crypto/rand"
	"fmt"
	"math"
	"time"
)

// Session is what is known of somebody who has logged in. Its times have the resolution of a second, but for those of the
// tokens, which may live for only a few: they have that of a millisecond.
type Session struct {
	// ID is new at each login, and stays the same for as long as the session lives.
	ID [16]byte

	// Subject is who has logged in, and SID the provider's name of its own session.
	Subject, SID string

	// Claims and IDTokenClaims are the texts of JSON objects: what the identity is made of, and what the ID token alone said.
	Claims, IDTokenClaims string

	// UserinfoClaims are the names of the claims that came from the userinfo endpoint, with NUL between them.
	UserinfoClaims string

	// The tokens that are kept, empty where one is not, and the scope that was granted.
	AccessToken, RefreshToken, IDToken, Scope string

	// Created is the time of the login. AccessExpires and IDTokenIssued are zero when the provider did not say.
	Created, LastUsed, AccessExpires, IDTokenIssued time.Time

	// End is when the session was to end when it was made. What instances share of it is found by that.
	End time.Time

	// Renewed is when the tokens were last granted.
	Renewed time.Time

	// Generation counts the renewals.
	Generation uint64

	// NonceHash is the start of the SHA-256 of the login's nonce, zero when there was none.
	NonceHash [16]byte
}

// NewID returns a random session identifier.
func NewID() [16]byte {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return id
}

// Tags of a session's fields. They are written down in cookies: never change what one means.
const (
	tagSessionID byte = iota + 1
	tagSubject
	tagSID
	tagClaims
	tagIDTokenClaims
	tagAccessToken
	tagRefreshToken
	tagIDToken
	tagScope
	tagCreated
	tagLastUsed
	tagAccessExpiresSecond // written by earlier versions
	tagIDTokenIssued
	tagGeneration
	tagPackedAccessToken
	tagPackedRefreshToken
	tagPackedIDToken
	tagAccessExpires
	tagRenewed
	tagNonceHash
	tagUserinfoClaims
	tagEnd
)

// Marshal returns the session's wire form.
func (s *Session) Marshal() []byte {
	size := len(s.Subject) + len(s.SID) + len(s.Claims) + len(s.IDTokenClaims) +
		len(s.AccessToken) + len(s.RefreshToken) + len(s.IDToken) + len(s.Scope) + len(s.UserinfoClaims)
	e := newEncoder(size + 128)
	e.bytes(tagSessionID, s.ID[:])
	e.text(tagSubject, s.Subject)
	e.text(tagSID, s.SID)
	e.text(tagClaims, s.Claims)
	e.text(tagIDTokenClaims, s.IDTokenClaims)
	e.token(tagAccessToken, tagPackedAccessToken, s.AccessToken)
	e.token(tagRefreshToken, tagPackedRefreshToken, s.RefreshToken)
	e.token(tagIDToken, tagPackedIDToken, s.IDToken)
	e.text(tagScope, s.Scope)
	e.time(tagCreated, s.Created)
	e.time(tagLastUsed, s.LastUsed)
	e.milliseconds(tagAccessExpires, s.AccessExpires)
	e.time(tagIDTokenIssued, s.IDTokenIssued)
	e.milliseconds(tagRenewed, s.Renewed)
	e.time(tagEnd, s.End)
	if s.Generation != 0 {
		e.number(tagGeneration, s.Generation)
	}
	if s.NonceHash != [16]byte{} {
		e.bytes(tagNonceHash, s.NonceHash[:])
	}
	e.text(tagUserinfoClaims, s.UserinfoClaims)
	return e.buf
}

// ParseSession reads what [Session.Marshal] wrote, in this version of the module or in another.
func ParseSession(data []byte) (*Session, error) {
	d := newDecoder(data)
	s := new(Session)
	for d.next() {
		switch d.tag {
		case tagSessionID:
			d.fixed(s.ID[:])
		case tagSubject:
			s.Subject = d.value
		case tagSID:
			s.SID = d.value
		case tagClaims:
			s.Claims = d.value
		case tagIDTokenClaims:
			s.IDTokenClaims = d.value
		case tagAccessToken:
			s.AccessToken = d.value
		case tagRefreshToken:
			s.RefreshToken = d.value
		case tagIDToken:
			s.IDToken = d.value
		case tagScope:
			s.Scope = d.value
		case tagCreated:
			s.Created = d.time()
		case tagLastUsed:
			s.LastUsed = d.time()
		case tagAccessExpires:
			s.AccessExpires = d.milliseconds()
		case tagAccessExpiresSecond:
			if seconds := d.time(); !d.has(tagAccessExpires) {
				s.AccessExpires = seconds
			}
		case tagIDTokenIssued:
			s.IDTokenIssued = d.time()
		case tagEnd:
			s.End = d.time()
		case tagRenewed:
			s.Renewed = d.milliseconds()
		case tagNonceHash:
			d.fixed(s.NonceHash[:])
		case tagUserinfoClaims:
			s.UserinfoClaims = d.value
		case tagGeneration:
			s.Generation = d.number(math.MaxUint64)
		case tagPackedAccessToken:
			s.AccessToken = d.unpacked()
		case tagPackedRefreshToken:
			s.RefreshToken = d.unpacked()
		case tagPackedIDToken:
			s.IDToken = d.unpacked()
		}
	}
	if d.err != nil || !d.has(tagSessionID) {
		return nil, fmt.Errorf("reading a session: %w", errMalformed)
	}
	return s, nil
}
