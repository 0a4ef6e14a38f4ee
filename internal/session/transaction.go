package session

import (
	"fmt"
	"time"
)

// Transaction is a login that is under way, as the browser that started it keeps it.
type Transaction struct {
	// State is the random part of the state parameter: it says to which answer of the provider this belongs.
	State [32]byte

	// Nonce and Verifier are what the ID token and the token request must show.
	Nonce, Verifier string

	// RedirectURI is sent again with the code, exactly. ReturnURL is where the browser wanted to go.
	RedirectURI, ReturnURL string

	// Created is when the login started, and Attempt how often it had been started before.
	Created time.Time
	Attempt int

	// MaxAge, if HasMaxAge, and ACRValues are what this login demanded, in whole seconds.
	MaxAge    time.Duration
	HasMaxAge bool
	ACRValues string
}

// State is what the state parameter holds, for a callback whose transaction is gone.
type State struct {
	Random    [32]byte
	ReturnURL string
	Created   time.Time
	Attempt   int
	Prompt    string
}

// maxAttempt bounds a counter that stops at a handful.
const maxAttempt = 1 << 20

// Tags of a transaction's fields. They are written down in cookies: never change what one means.
const (
	tagTransactionState byte = iota + 1
	tagNonce
	tagVerifier
	tagRedirectURI
	tagTransactionReturnURL
	tagTransactionCreated
	tagTransactionAttempt
	tagMaxAge
	tagACRValues
)

// Marshal returns the transaction's wire form.
func (t *Transaction) Marshal() []byte {
	e := newEncoder(len(t.Nonce) + len(t.Verifier) + len(t.RedirectURI) + len(t.ReturnURL) + len(t.ACRValues) + 96)
	e.bytes(tagTransactionState, t.State[:])
	e.text(tagNonce, t.Nonce)
	e.text(tagVerifier, t.Verifier)
	e.text(tagRedirectURI, t.RedirectURI)
	e.text(tagTransactionReturnURL, t.ReturnURL)
	e.time(tagTransactionCreated, t.Created)
	e.attempt(tagTransactionAttempt, t.Attempt)
	if t.HasMaxAge {
		e.number(tagMaxAge, uint64(min(max(t.MaxAge/time.Second, 0), maxSeconds)))
	}
	e.text(tagACRValues, t.ACRValues)
	return e.buf
}

// ParseTransaction reads what [Transaction.Marshal] wrote, in this version of the module or in another.
func ParseTransaction(data []byte) (*Transaction, error) {
	d := newDecoder(data)
	t := new(Transaction)
	for d.next() {
		switch d.tag {
		case tagTransactionState:
			d.fixed(t.State[:])
		case tagNonce:
			t.Nonce = d.value
		case tagVerifier:
			t.Verifier = d.value
		case tagRedirectURI:
			t.RedirectURI = d.value
		case tagTransactionReturnURL:
			t.ReturnURL = d.value
		case tagTransactionCreated:
			t.Created = d.time()
		case tagTransactionAttempt:
			t.Attempt = int(d.number(maxAttempt))
		case tagMaxAge:
			t.MaxAge, t.HasMaxAge = time.Duration(d.number(maxSeconds))*time.Second, true
		case tagACRValues:
			t.ACRValues = d.value
		}
	}
	if d.err != nil || !d.has(tagTransactionState) {
		return nil, fmt.Errorf("reading a transaction: %w", errMalformed)
	}
	return t, nil
}

// Tags of the state's fields. They are written down in URLs: never change what one means.
const (
	tagRandom byte = iota + 1
	tagStateReturnURL
	tagStateCreated
	tagStateAttempt
	tagPrompt
)

// Marshal returns the state's wire form.
func (s *State) Marshal() []byte {
	e := newEncoder(len(s.ReturnURL) + len(s.Prompt) + 64)
	e.bytes(tagRandom, s.Random[:])
	e.text(tagStateReturnURL, s.ReturnURL)
	e.time(tagStateCreated, s.Created)
	e.attempt(tagStateAttempt, s.Attempt)
	e.text(tagPrompt, s.Prompt)
	return e.buf
}

// ParseState reads what [State.Marshal] wrote, in this version of the module or in another.
func ParseState(data []byte) (*State, error) {
	d := newDecoder(data)
	s := new(State)
	for d.next() {
		switch d.tag {
		case tagRandom:
			d.fixed(s.Random[:])
		case tagStateReturnURL:
			s.ReturnURL = d.value
		case tagStateCreated:
			s.Created = d.time()
		case tagStateAttempt:
			s.Attempt = int(d.number(maxAttempt))
		case tagPrompt:
			s.Prompt = d.value
		}
	}
	if d.err != nil || !d.has(tagRandom) {
		return nil, fmt.Errorf("reading a state: %w", errMalformed)
	}
	return s, nil
}

func (e *encoder) attempt(tag byte, attempt int) {
	if attempt > 0 {
		e.number(tag, uint64(min(attempt, maxAttempt)))
	}
}
