package session

import (
	"net/http"
	"strings"
)

const (
	maxCandidates   = 4
	maxTransactions = 32
	maxLoopValue    = 200
	maxStaleNames   = 32
)

// Received is what a request brought of our cookies.
type Received struct {
	// Session has the sealed values that may be the session: usually one or none, more when a name came twice.
	Session []string

	// Transactions has the logins that are under way.
	Transactions []Value

	// Loop is what the loop breaker wrote, or what somebody else made of it.
	Loop string

	found found
}

// found is what there was of a session, readable or not: enough to delete it.
type found struct {
	plain  bool
	chunks [(maxChunks + 63) / 64]uint64 // indices, as a set
	strays []string                      // what follows the name in those whose index is none that we would write
}

// Value is a cookie: its name and its sealed value.
type Value struct{ Name, Value string }

// HasSession reports whether there was a cookie of a session, readable or not.
func (r *Received) HasSession() bool {
	return r.found.plain || r.found.chunks != [len(r.found.chunks)]uint64{} || len(r.found.strays) > 0
}

// Unseen is what a browser may have of a session without having sent it, because another site has caused the request: the cookie, and
// as many chunks as there can be.
func (c *Cookies) Unseen() Received {
	var r Received
	r.found.plain = true
	for index := range min(c.config.MaxBytes/c.chunk(c.secure.session)+1, maxChunks) {
		r.found.chunks[index/64] |= 1 << (index % 64)
	}
	return r
}

// Take removes our cookies from a request's header and returns them. The other cookies stay as they are, byte for byte; the
// header goes when nothing is left of it. The names for http and https are both removed, and so is whatever has the shape of a
// default name, which is a session of another handler; only those that fit the configuration and the scheme count.
func (c *Cookies) Take(header http.Header, secure bool) Received {
	lines := header["Cookie"]
	t := taking{cookies: c, current: c.names(secure)}
	left := lines[:0]
	for _, line := range lines {
		rest, changed := line, false
		if strings.Contains(line, c.base) || strings.Contains(line, defaultMark) {
			rest, changed = t.take(line)
		}
		if !changed || strings.Trim(rest, "; \t") != "" {
			left = append(left, rest)
		}
	}
	if len(left) < len(lines) {
		header["Cookie"] = left
		if len(left) == 0 {
			delete(header, "Cookie")
		}
	}
	if len(t.chunks) > 0 {
		t.joinChunks()
	}
	return t.received
}

// taking is the state of one Take.
type taking struct {
	cookies  *Cookies
	current  *names
	received Received
	chunks   []chunk
}

type chunk struct {
	index int
	value string
}

// take takes our cookies out of a line. It returns what is left, and whether that is less than there was.
func (t *taking) take(line string) (left string, changed bool) {
	var joined strings.Builder // only if what is left is not in one piece
	pieces := 0
	keep := func(from, to int) {
		piece := line[from:to]
		switch pieces++; pieces {
		case 1:
			if from > 0 {
				piece = strings.TrimLeft(piece, " \t")
			}
			left = piece
			return
		case 2:
			joined.Grow(len(line))
			joined.WriteString(left)
		}
		joined.WriteByte(';')
		joined.WriteString(piece)
	}
	from := 0 // where the piece begins that is being kept
	for at := 0; at <= len(line); {
		start, end := at, len(line)
		if length := strings.IndexByte(line[start:], ';'); length >= 0 {
			end = start + length
		}
		at = end + 1
		if !t.pair(line[start:end]) {
			continue
		}
		changed = true
		if from < start {
			keep(from, start-1)
		}
		from = at
	}
	if from <= len(line) {
		keep(from, len(line))
	}
	if pieces > 1 {
		left = joined.String()
	}
	return left, changed
}

// pair looks at one cookie, and reports whether it is ours.
func (t *taking) pair(pair string) bool {
	name, value, found := strings.Cut(strings.Trim(pair, " \t"), "=")
	if !found {
		return false
	}
	name = strings.TrimRight(name, " \t")
	c := t.cookies
	kind, suffix := t.current.match(name)
	switch kind {
	case notOurs:
		other := &c.plain
		if t.current == other {
			other = &c.secure
		}
		kind, _ = other.match(name)
		return kind != notOurs || isDefaultName(name)
	case sessionCookie:
		t.received.found.plain = true
		if value != "" && len(t.received.Session) < maxCandidates {
			t.received.Session = append(t.received.Session, value)
		}
	case sessionChunk:
		t.chunk(suffix, value)
	case transactionCookie:
		if value != "" && len(t.received.Transactions) < maxTransactions {
			t.received.Transactions = append(t.received.Transactions, Value{name, value})
		}
	case loopCookie:
		if t.received.Loop == "" && len(value) <= maxLoopValue {
			t.received.Loop = value
		}
	}
	return true
}

func (t *taking) chunk(suffix, value string) {
	index, ok := chunkIndex(suffix[1:])
	found := &t.received.found
	switch {
	case ok:
		found.chunks[index/64] |= 1 << (index % 64)
		if value != "" {
			t.chunks = append(t.chunks, chunk{index, value})
		}
	case len(found.strays) < maxStaleNames:
		found.strays = append(found.strays, suffix)
	}
}

// joinChunks appends what the chunks make together. Where one came twice there are two ways to read them.
func (t *taking) joinChunks() {
	var first, last [maxChunks]string
	for _, chunk := range t.chunks {
		if first[chunk.index] == "" {
			first[chunk.index] = chunk.value
		}
		last[chunk.index] = chunk.value
	}
	for i, parts := range [...]*[maxChunks]string{&first, &last} {
		if i == 1 && first == last || len(t.received.Session) >= maxCandidates || parts[0] == "" {
			continue
		}
		n := 1
		// a piece that is shorter than those before it was the last; what comes after it was left over
		for n < maxChunks && parts[n] != "" && len(parts[n-1]) == len(parts[0]) {
			n++
		}
		t.received.Session = append(t.received.Session, strings.Join(parts[:n], ""))
	}
}

type cookieKind int

const (
	notOurs cookieKind = iota
	sessionCookie
	sessionChunk
	transactionCookie
	loopCookie
)

// match says what a name is, and returns what follows the session's.
func (n *names) match(name string) (kind cookieKind, suffix string) {
	if suffix, ok := strings.CutPrefix(name, n.session); ok {
		switch {
		case suffix == "":
			return sessionCookie, ""
		case suffix[0] == '.' && digits(suffix[1:]):
			return sessionChunk, suffix
		}
	}
	if hash, ok := strings.CutPrefix(name, n.transaction); ok && isTransactionHash(hash) {
		return transactionCookie, ""
	}
	if name == n.loop {
		return loopCookie, ""
	}
	return notOurs, ""
}

// isDefaultName reports whether a name is like those that are made of issuer and client.
func isDefaultName(name string) bool {
	name = strings.TrimPrefix(strings.TrimPrefix(name, hostPrefix), securePrefix)
	rest, ok := strings.CutPrefix(name, defaultMark)
	if !ok || len(rest) < defaultDigits || strings.Trim(rest[:defaultDigits], "0123456789abcdef") != "" {
		return false
	}
	switch rest = rest[defaultDigits:]; {
	case rest == "", rest == loopSuffix, rest[0] == '.' && digits(rest[1:]):
		return true
	}
	hash, ok := strings.CutPrefix(rest, transactionInfix)
	return ok && isTransactionHash(hash)
}

func digits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

func isTransactionHash(text string) bool {
	return len(text) == transactionHash && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz234567") == ""
}
