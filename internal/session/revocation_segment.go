package session

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// revocationSet is the set in the backend that has the names of all segments.
const revocationSet = "revoked"

const (
	// segmentVersion is the first byte of a segment. It changes only for a form that an older version could not read.
	segmentVersion = 1

	// segmentEntry is how long an entry is: the key, then created, issued and until.
	segmentEntry = 16 + 3*4

	// maxSegment is how many entries a segment has room for.
	maxSegment = 1000

	// maxPart is the last segment that an hour may have.
	maxPart = 9999

	// segmentLife is how long after its hour a segment is there in any case, so that one leads to the next.
	segmentLife = 2 * time.Hour
)

// ErrRevocationsBroken says that a segment is not, or not wholly, what an instance wrote. What can be read of it counts, and nobody
// writes there any more.
var ErrRevocationsBroken = errors.New("broken segment of revocations")

// segment names a part of what was written in an hour, which is counted from 1970 on.
type segment struct {
	hour int64
	part int
}

func (s segment) compare(other segment) int {
	return cmp.Or(cmp.Compare(s.hour, other.hour), cmp.Compare(s.part, other.part))
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

func (s segment) time() time.Time { return time.Unix(s.hour*3600, 0).UTC() }

// key is where the segment is kept: in a folder for the day on which it was written.
func (s segment) key() string {
	return folderRevoked + "/" + s.time().Format("2006-01-02/15") + "." + strconv.Itoa(s.part)
}

// member is what the segment is called in the set.
func (s segment) member() string {
	return s.time().Format("2006-01-02.15") + "." + strconv.Itoa(s.part)
}

// end is until when the segment is needed if the last of its entries ends then.
func (s segment) end(until uint32) time.Time {
	return latest(time.Unix(int64(until), 0), s.time().Add(time.Hour+segmentLife))
}

// parseSegmentMember reads what member wrote. What is something else, such as a file that is being written, is passed over.
func parseSegmentMember(member string) (_ segment, ok bool) {
	const form = "2006-01-02.15"
	if len(member) < len(form)+2 {
		return segment{}, false
	}
	hour, err := time.Parse(form, member[:len(form)])
	if err != nil {
		return segment{}, false
	}
	part, err := strconv.Atoi(strings.TrimPrefix(member[len(form):], "."))
	s := segment{hourOf(hour), part}
	return s, err == nil && part >= 0 && part <= maxPart && s.member() == member
}

// marshalSegment returns the wire form of a segment's entries.
func marshalSegment(entries map[revocationKey]revocationEntry) []byte {
	data := append(make([]byte, 0, 1+len(entries)*segmentEntry), segmentVersion)
	keys := slices.SortedFunc(maps.Keys(entries), func(a, b revocationKey) int { return bytes.Compare(a[:], b[:]) })
	for _, key := range keys {
		entry := entries[key]
		data = append(data, key[:]...)
		data = binary.BigEndian.AppendUint32(data, entry.created)
		data = binary.BigEndian.AppendUint32(data, entry.issued)
		data = binary.BigEndian.AppendUint32(data, entry.until)
	}
	return data
}

// parseSegment reads what marshalSegment wrote. With the error come the entries that can be read all the same.
func parseSegment(data []byte) (map[revocationKey]revocationEntry, error) {
	if len(data) == 0 || data[0] != segmentVersion {
		return nil, fmt.Errorf("%w: not of a version that is known here", ErrRevocationsBroken)
	}
	data = data[1:]
	var err error
	if len(data)%segmentEntry != 0 || len(data) > maxSegment*segmentEntry {
		err = fmt.Errorf("%w: it cannot be that long", ErrRevocationsBroken)
	}
	entries := make(map[revocationKey]revocationEntry, min(len(data)/segmentEntry, maxSegment))
	for ; len(data) >= segmentEntry && len(entries) < maxSegment; data = data[segmentEntry:] {
		key := revocationKey(data[:16])
		entries[key] = entries[key].with(revocationEntry{
			created: binary.BigEndian.Uint32(data[16:]),
			issued:  binary.BigEndian.Uint32(data[20:]),
			until:   binary.BigEndian.Uint32(data[24:]),
		})
	}
	return entries, err
}

// lastUntil is when the last of some entries ends.
func lastUntil(entries map[revocationKey]revocationEntry) (until uint32) {
	for _, entry := range entries {
		until = max(until, entry.until)
	}
	return until
}
