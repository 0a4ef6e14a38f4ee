package session

import (
	"encoding/binary"
	"errors"
	"time"
)

// The wire form of everything that is sealed: a version byte, then fields of a tag byte, a length and a value, in any
// order. A field that is not there is zero. A reader skips the tags that it does not know, so that an older and a newer
// version of this module read each other's; the version byte changes only for a form that they could not.
const wireVersion = 1

// maxWire bounds what is parsed, and with it what a sealed value expands to.
const maxWire = 256 << 10

// maxSeconds is where times and lifetimes end: in the year 2242, and before a [time.Duration] overflows.
const maxSeconds = 1 << 33

var errMalformed = errors.New("malformed")

type encoder struct{ buf []byte }

func newEncoder(size int) *encoder {
	return &encoder{append(make([]byte, 0, size), wireVersion)}
}

func (e *encoder) bytes(tag byte, value []byte) {
	e.buf = append(e.buf, tag)
	e.buf = binary.AppendUvarint(e.buf, uint64(len(value)))
	e.buf = append(e.buf, value...)
}

func (e *encoder) text(tag byte, value string) {
	if value == "" {
		return
	}
	e.buf = append(e.buf, tag)
	e.buf = binary.AppendUvarint(e.buf, uint64(len(value)))
	e.buf = append(e.buf, value...)
}

// number writes a zero too: whether the field is there may mean something.
func (e *encoder) number(tag byte, value uint64) {
	var digits [binary.MaxVarintLen64]byte
	e.bytes(tag, digits[:binary.PutUvarint(digits[:], value)])
}

func (e *encoder) time(tag byte, value time.Time) {
	if !value.IsZero() {
		e.number(tag, uint64(min(max(value.Unix(), 0), maxSeconds)))
	}
}

// milliseconds is time with a thousand times its resolution. Like it, it rounds down.
func (e *encoder) milliseconds(tag byte, value time.Time) {
	if !value.IsZero() {
		e.number(tag, wireMilliseconds(value))
	}
}

func wireMilliseconds(value time.Time) uint64 {
	return uint64(min(max(value.UnixMilli(), 0), maxSeconds*1000))
}

// decoder reads fields one by one. Its values are parts of the text given, which is copied once for all of them.
type decoder struct {
	rest string
	seen [4]uint64 // tags, as a set
	err  error

	tag   byte
	value string
}

func newDecoder(data []byte) *decoder {
	if len(data) == 0 || len(data) > maxWire || data[0] != wireVersion {
		return &decoder{err: errMalformed}
	}
	return &decoder{rest: string(data[1:])}
}

// next moves to the next field. A tag that comes twice is an error: two readers might choose differently.
func (d *decoder) next() bool {
	if d.err != nil || d.rest == "" {
		return false
	}
	d.tag = d.rest[0]
	length, n := uvarint(d.rest[1:])
	if n == 0 || length > uint64(len(d.rest)-1-n) || d.seen[d.tag>>6]&(1<<(d.tag&63)) != 0 {
		d.err = errMalformed
		return false
	}
	d.seen[d.tag>>6] |= 1 << (d.tag & 63)
	start := 1 + n
	d.value, d.rest = d.rest[start:start+int(length)], d.rest[start+int(length):]
	return true
}

func (d *decoder) has(tag byte) bool { return d.seen[tag>>6]&(1<<(tag&63)) != 0 }

// fixed fills an array; any other length is an error.
func (d *decoder) fixed(dst []byte) {
	if copy(dst, d.value) != len(dst) || len(d.value) != len(dst) {
		d.err = errMalformed
	}
}

func (d *decoder) number(limit uint64) uint64 {
	number, n := uvarint(d.value)
	if n == 0 || n != len(d.value) || number > limit {
		d.err = errMalformed
		return 0
	}
	return number
}

func (d *decoder) time() time.Time {
	return time.Unix(int64(d.number(maxSeconds)), 0).UTC()
}

func (d *decoder) milliseconds() time.Time {
	return time.UnixMilli(int64(d.number(maxSeconds * 1000))).UTC()
}

// uvarint is [binary.Uvarint] for text. It returns 0 bytes read for anything but the shortest form of a number.
func uvarint(text string) (uint64, int) {
	var number uint64
	for i := 0; i < len(text) && i < binary.MaxVarintLen64; i++ {
		b := text[i]
		if i == binary.MaxVarintLen64-1 && b > 1 || b == 0 && i > 0 {
			return 0, 0
		}
		number |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return number, i + 1
		}
	}
	return 0, 0
}
