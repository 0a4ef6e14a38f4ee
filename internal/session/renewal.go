package session

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

// Renewal is what instances tell each other of the renewals of one session. Its times have the resolution of a millisecond.
type Renewal struct {
	// Generation is the newest that is known.
	Generation uint64

	// Sealed is the cookie of that generation, empty where the session is kept on the server. It is given out until Until.
	Sealed string
	Until  time.Time

	// Replaced are older generations; requests with one of them still get the newest. At most 256 are kept, the newest.
	Replaced []Replaced

	// Ended says that the provider has refused the refresh token of that generation: the session is over.
	Ended bool

	// Over says that the session was given up, and whatever may yet come of a renewal of it.
	Over bool

	// Asked is when an instance was about to send the refresh token of that generation: it may be spent, though nothing has come of
	// it yet.
	Asked time.Time

	// Failures counts the attempts to renew that generation which came to nothing. The next one is due at RetryAt.
	Failures int
	RetryAt  time.Time
}

// Replaced is a generation that there is a newer one of, and until when its bearers get that.
type Replaced struct {
	Generation uint64
	Until      time.Time
}

const (
	// maxReplaced bounds the older generations of an entry.
	maxReplaced = 256

	// maxFailures is where the count of failures ends.
	maxFailures = 1 << 20

	// backoffMemory is how long failures are remembered when the next attempt is due. It comes soon, if at all.
	backoffMemory = time.Minute

	// askedMemory is how long an instance may take to tell what has come of a grant, its storage being away meanwhile.
	askedMemory = 15 * time.Minute
)

// Tags of a renewal's fields. They are written down in the storage: never change what one means.
const (
	tagRenewalGeneration byte = iota + 1
	tagRenewalSealed
	tagRenewalUntil
	tagRenewalReplaced
	tagRenewalEnded
	tagRenewalFailures
	tagRenewalRetryAt
	tagRenewalAsked
	tagRenewalOver
)

// marshal returns the renewal's wire form.
func (r *Renewal) marshal() []byte {
	e := newEncoder(len(r.Sealed) + 64 + 16*len(r.Replaced))
	e.number(tagRenewalGeneration, r.Generation)
	e.text(tagRenewalSealed, r.Sealed)
	e.milliseconds(tagRenewalUntil, r.Until)
	if len(r.Replaced) > 0 {
		var list []byte
		for _, replaced := range r.Replaced {
			list = binary.AppendUvarint(list, replaced.Generation)
			list = binary.AppendUvarint(list, wireMilliseconds(replaced.Until))
		}
		e.bytes(tagRenewalReplaced, list)
	}
	if r.Ended {
		e.number(tagRenewalEnded, 1)
	}
	if r.Failures > 0 {
		e.number(tagRenewalFailures, uint64(min(r.Failures, maxFailures)))
	}
	e.milliseconds(tagRenewalRetryAt, r.RetryAt)
	e.milliseconds(tagRenewalAsked, r.Asked)
	if r.Over {
		e.number(tagRenewalOver, 1)
	}
	return e.buf
}

// parseRenewal reads what [Renewal.marshal] wrote, in this version of the module or in another.
func parseRenewal(data []byte) (*Renewal, error) {
	d := newDecoder(data)
	r := new(Renewal)
	for d.next() {
		switch d.tag {
		case tagRenewalGeneration:
			r.Generation = d.number(math.MaxUint64)
		case tagRenewalSealed:
			r.Sealed = d.value
		case tagRenewalUntil:
			r.Until = d.milliseconds()
		case tagRenewalReplaced:
			r.Replaced = d.replaced()
		case tagRenewalEnded:
			r.Ended = d.number(1) == 1
		case tagRenewalFailures:
			r.Failures = int(d.number(maxFailures))
		case tagRenewalRetryAt:
			r.RetryAt = d.milliseconds()
		case tagRenewalAsked:
			r.Asked = d.milliseconds()
		case tagRenewalOver:
			r.Over = d.number(1) == 1
		}
	}
	if d.err != nil || !d.has(tagRenewalGeneration) {
		return nil, fmt.Errorf("reading a renewal: %w", errMalformed)
	}
	return r, nil
}

// replaced reads pairs of a generation and a time.
func (d *decoder) replaced() []Replaced {
	var list []Replaced
	for rest := d.value; rest != ""; {
		generation, n := uvarint(rest)
		until, m := uvarint(rest[n:])
		if n == 0 || m == 0 || until > maxSeconds*1000 {
			d.err = errMalformed
			return nil
		}
		list = append(list, Replaced{generation, time.UnixMilli(int64(until)).UTC()})
		rest = rest[n+m:]
	}
	return list
}

// current returns what is left of the renewal at that time.
func (r *Renewal) current(now time.Time) *Renewal {
	c := *r
	if c.Ended || c.Over {
		return &Renewal{Generation: c.Generation, Ended: c.Ended, Over: c.Over}
	}
	if !now.Before(c.Asked.Add(askedMemory)) {
		c.Asked = time.Time{}
	}
	if !now.Before(c.Until) {
		c.Sealed, c.Until = "", time.Time{}
	}
	if !now.Before(c.RetryAt.Add(backoffMemory)) {
		c.Failures, c.RetryAt = 0, time.Time{}
	}
	c.Replaced = slices.DeleteFunc(slices.Clone(c.Replaced), func(old Replaced) bool { return !now.Before(old.Until) })
	// of the entries for one generation the shortest counts: what is granted is not extended
	slices.SortFunc(c.Replaced, func(a, b Replaced) int {
		return cmp.Or(cmp.Compare(b.Generation, a.Generation), a.Until.Compare(b.Until))
	})
	c.Replaced = slices.CompactFunc(c.Replaced, func(a, b Replaced) bool { return a.Generation == b.Generation })
	if c.Replaced = slices.Clip(c.Replaced[:min(len(c.Replaced), maxReplaced)]); len(c.Replaced) == 0 {
		c.Replaced = nil
	}
	return &c
}

// expires is when nothing more than the generation is left.
func (r *Renewal) expires(now time.Time) time.Time {
	last := now
	for _, replaced := range r.Replaced {
		last = latest(last, replaced.Until)
	}
	last = latest(latest(last, r.Until), r.RetryAt).Add(backoffMemory)
	if !r.Asked.IsZero() {
		last = latest(last, r.Asked.Add(askedMemory))
	}
	return last
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// merge returns what two entries say together, either of which may be nil: the later generation, and at the same one that it
// has ended.
func merge(renewal, spent *Renewal) *Renewal {
	switch {
	case spent == nil:
		return renewal
	case renewal == nil, spent.Over, spent.Generation > renewal.Generation:
		return spent
	case spent.Generation == renewal.Generation && spent.Ended:
		ended := *renewal
		ended.Ended = true
		return &ended
	default:
		return renewal
	}
}

// following returns the renewal with what is known from before and it does not repeat: bearers of older generations keep
// what they were granted, whoever writes the next entry. At the same generation that goes for its cookie too.
func (r *Renewal) following(known *Renewal) *Renewal {
	c := *r
	c.Replaced = append(slices.Clone(c.Replaced), known.Replaced...)
	if known.Generation == c.Generation {
		c.Ended = c.Ended || known.Ended
		if c.Sealed == "" && known.Sealed != "" {
			c.Sealed, c.Until = known.Sealed, known.Until
		}
	}
	return &c
}
