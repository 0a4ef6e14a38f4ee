package session

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
)

// The first byte of what is sealed for the session's cookie says what follows.
const (
	formSession byte = iota + 1
	formDeflated
	formReference
)

// SealSession seals a session for its cookie. It is compressed only when that saves a cookie, or makes it fit at all. When it
// does not fit the budget, the ID token is left out, which dropped reports; when it still does not, the error is [ErrTooLarge].
func (c *Cookies) SealSession(ctx context.Context, s *Sealer, b Binding, sess *Session) (sealed string, dropped bool, err error) {
	plaintext, fits, err := c.pack(s, b.CookieName, sess)
	if err == nil && !fits && sess.IDToken != "" {
		without := *sess
		without.IDToken, dropped = "", true
		plaintext, fits, err = c.pack(s, b.CookieName, &without)
	}
	if err == nil && !fits {
		err = ErrTooLarge
	}
	if err != nil {
		return "", false, fmt.Errorf("sealing a session: %w", err)
	}
	sealed, err = s.Seal(ctx, PurposeSession, b, plaintext)
	if err != nil {
		return "", false, fmt.Errorf("sealing a session: %w", err)
	}
	return sealed, dropped, nil
}

// pack returns what is to be sealed, and whether that fits the budget.
func (c *Cookies) pack(s *Sealer, name string, sess *Session) (plaintext []byte, fits bool, err error) {
	wire := sess.Marshal()
	if len(wire) > maxWire {
		return nil, false, nil
	}
	plaintext = append(append(make([]byte, 0, len(wire)+1), formSession), wire...)
	count, size := c.pieces(name, sealedLength(len(plaintext)))
	if count == 1 && size <= c.config.MaxBytes {
		return plaintext, true, nil
	}
	deflated, err := s.deflate(wire)
	if err != nil {
		return nil, false, err
	}
	smallerCount, smaller := c.pieces(name, sealedLength(len(deflated)))
	if smallerCount < count || size > c.config.MaxBytes && smaller < size {
		plaintext, size = deflated, smaller
	}
	return plaintext, size <= c.config.MaxBytes, nil
}

func sealedLength(plaintext int) int { return sealEncoding.EncodedLen(plaintext + sealOverhead) }

// OpenCookie opens the value of a session's cookie: either a session or, if it is kept on the server, a reference to it. The
// error is always [ErrSeal].
func OpenCookie(ctx context.Context, s *Sealer, b Binding, sealed string) (sess *Session, ref *Reference, current bool, err error) {
	buf := s.buffer()
	defer s.buffers.Put(buf)
	plaintext, current, err := s.openIn(ctx, *buf, PurposeSession, &b, sealed)
	if err != nil || len(plaintext) == 0 {
		return nil, nil, false, ErrSeal
	}
	switch form, wire := plaintext[0], plaintext[1:]; form {
	case formSession:
		sess, err = ParseSession(wire)
	case formDeflated:
		inflated := s.buffer()
		defer s.buffers.Put(inflated)
		if wire, err = s.inflate(*inflated, wire); err == nil {
			*inflated = wire[:0]
			sess, err = ParseSession(wire)
		}
	case formReference:
		ref, err = ParseReference(wire)
	default:
		err = ErrSeal
	}
	if err != nil {
		return nil, nil, false, ErrSeal
	}
	return sess, ref, current, nil
}

// SealReference seals a reference for the session's cookie.
func (s *Sealer) SealReference(ctx context.Context, b Binding, ref *Reference) (string, error) {
	sealed, err := s.Seal(ctx, PurposeSession, b, append([]byte{formReference}, ref.Marshal()...))
	if err != nil {
		return "", fmt.Errorf("sealing a session reference: %w", err)
	}
	return sealed, nil
}

func (s *Sealer) deflate(wire []byte) ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte(formDeflated)
	w, ok := s.deflaters.Get().(*flate.Writer)
	if ok {
		w.Reset(&buf)
	} else {
		var err error
		if w, err = flate.NewWriter(&buf, flate.DefaultCompression); err != nil {
			return nil, err
		}
	}
	defer s.deflaters.Put(w)
	if _, err := w.Write(wire); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// buffer returns empty memory. Nothing of what is in it may be kept when it is put back.
func (s *Sealer) buffer() *[]byte {
	if buf, ok := s.buffers.Get().(*[]byte); ok {
		return buf
	}
	return new(make([]byte, 0, 8<<10))
}

// inflate fills an empty buffer, or a larger one in its place. It stops at a byte more than a session may have, which is refused then.
// Anything after the end is an error.
func (s *Sealer) inflate(buf, deflated []byte) ([]byte, error) {
	source := bytes.NewReader(deflated)
	r, ok := s.inflaters.Get().(io.Reader)
	if !ok {
		r = flate.NewReader(source)
	} else if err := r.(flate.Resetter).Reset(source, nil); err != nil {
		return nil, err
	}
	defer s.inflaters.Put(r)
	wire := bytes.NewBuffer(buf)
	if _, err := wire.ReadFrom(io.LimitReader(r, maxWire+1)); err != nil {
		return nil, err
	}
	if source.Len() > 0 {
		return nil, errMalformed
	}
	return wire.Bytes(), nil
}
