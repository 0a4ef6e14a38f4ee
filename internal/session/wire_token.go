package session

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// Most tokens are base64url text in parts between dots. They are packed into the bytes that this text stands for: that is a
// quarter less, and what a token says in JSON compresses together with the same claims elsewhere in the session.

// One text for the same bytes, so that what is unpacked is what was packed.
var tokenEncoding = base64.RawURLEncoding.Strict()

// token writes a token under one tag as it is, or under the other one packed, if that is shorter and exact.
func (e *encoder) token(plain, packed byte, value string) {
	if value == "" {
		return
	}
	start := len(e.buf)
	if small, ok := appendPacked(e.buf, value); ok && len(small)-start < len(value) {
		e.buf = small[:start]
		e.bytes(packed, append([]byte(nil), small[start:]...))
		return
	}
	e.buf = e.buf[:start]
	e.text(plain, value)
}

// appendPacked appends each part's length and bytes.
func appendPacked(dst []byte, token string) ([]byte, bool) {
	for part := range strings.SplitSeq(token, ".") {
		size := tokenEncoding.DecodedLen(len(part))
		if tokenEncoding.EncodedLen(size) != len(part) {
			return dst, false
		}
		dst = binary.AppendUvarint(dst, uint64(size))
		start := len(dst)
		var err error
		// the decoder passes over line breaks, which makes for fewer bytes
		if dst, err = tokenEncoding.AppendDecode(dst, []byte(part)); err != nil || len(dst)-start != size {
			return dst, false
		}
	}
	return dst, true
}

// unpacked returns the token that the field holds packed.
func (d *decoder) unpacked() string {
	var token strings.Builder
	token.Grow(tokenEncoding.EncodedLen(len(d.value)) + 1)
	for rest := d.value; ; {
		size, n := uvarint(rest)
		if n == 0 || size > uint64(len(rest)-n) {
			d.err = errMalformed
			return ""
		}
		writeEncoded(&token, rest[n:n+int(size)])
		if rest = rest[n+int(size):]; rest == "" {
			return token.String()
		}
		token.WriteByte('.')
	}
}

// writeEncoded writes in pieces that need no memory of their own.
func writeEncoded(dst *strings.Builder, part string) {
	const piece = 384 // a multiple of three, so that the pieces' texts are the text of the whole
	var text [piece / 3 * 4]byte
	for part != "" {
		n := min(piece, len(part))
		encoded := text[:tokenEncoding.EncodedLen(n)]
		tokenEncoding.Encode(encoded, []byte(part[:n]))
		dst.Write(encoded)
		part = part[n:]
	}
}
