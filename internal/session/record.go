package session

import (
	"crypto/cipher"
	"crypto/rand"

	"golang.org/x/crypto/chacha20poly1305"
)

// recordText is where the ciphertext of a sealed record starts: after the version and the nonce.
const recordText = 1 + chacha20poly1305.NonceSizeX

// maxRecord bounds what is opened.
const maxRecord = recordText + maxWire + chacha20poly1305.Overhead

// sealRecord seals what instances share. The associated data says what it is and where it belongs.
func sealRecord(aead cipher.AEAD, wire, data []byte) []byte {
	record := make([]byte, recordText, recordText+len(wire)+aead.Overhead())
	record[0] = sealVersion
	rand.Read(record[1:]) // never fails
	return aead.Seal(record, record[1:], wire, data)
}

// openRecord opens what sealRecord sealed, and nothing else.
func openRecord(aead cipher.AEAD, record, data []byte) (wire []byte, ok bool) {
	if len(record) < recordText || len(record) > maxRecord || record[0] != sealVersion {
		return nil, false
	}
	wire, err := aead.Open(nil, record[1:recordText], record[recordText:], data)
	return wire, err == nil
}
