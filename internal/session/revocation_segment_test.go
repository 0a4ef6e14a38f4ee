package session

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"
)

// The form of what is written, and the names that are hashed, are the same in all versions of this module.
func TestSegmentForm(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	entries := make(map[revocationKey]revocationEntry)
	for _, revoked := range []Revocation{
		{ID: sampleSession.ID, Until: now.Add(time.Hour)},
		{Owner: Owner{"https://id.example.com", "app"}, SID: "session at the provider", Created: now, Until: now.Add(time.Hour)},
		{Owner: Owner{"https://id.example.com", "app"}, Subject: "alice", Issued: now, Until: now.Add(2 * time.Hour)},
	} {
		key, named := revoked.key()
		entry, ok := revoked.entry(now)
		if !named || !ok {
			t.Fatal(revoked)
		}
		entries[key] = entry
	}
	const want = "01" +
		"0666473443bed5f75e518d413930474a6b49d200000000006b49e010" +
		"0e7bacd40b4ad4476e0e3bd24267cae1000000006b49d2006b49ee20" +
		"9addc20d1b8486281ccff7164d75ae9700000000000000006b49e010"
	data := marshalSegment(entries)
	if got := hex.EncodeToString(data); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	parsed, err := parseSegment(data)
	if err != nil || !maps.Equal(parsed, entries) || lastUntil(parsed) != 1_800_007_200 {
		t.Error(parsed, err)
	}
}

func TestSegmentNames(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 59, 59, 999, time.FixedZone("", 3600))
	s := segment{hourOf(now), 12}
	if s.key() != "revoked/2026-11-23/09.12" || s.member() != "2026-11-23.09.12" {
		t.Errorf("%q, %q", s.key(), s.member())
	}
	if got, ok := parseSegmentMember(s.member()); !ok || got != s {
		t.Error(got, ok)
	}
	list := []segment{{2, 1}, {1, 9}, {2, 0}}
	slices.SortFunc(list, segment.compare)
	if list[0].hour != 1 || list[1].part != 0 {
		t.Error(list)
	}
}

// FuzzParseRevocations: whatever is in the place of a segment, of what is read all is written again, and read as the same.
func FuzzParseRevocations(f *testing.F) {
	entries := map[revocationKey]revocationEntry{{1}: {1, 2, 3}, {2}: {0, 0, 1<<32 - 1}, {3}: {}}
	good := marshalSegment(entries)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), good[1:]...)) // the same names twice
	f.Add([]byte{segmentVersion})
	f.Add([]byte{segmentVersion + 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseSegment(data)
		if err != nil && !errors.Is(err, ErrRevocationsBroken) {
			t.Error(err)
		}
		if len(entries) > maxSegment || len(entries) > len(data)/segmentEntry {
			t.Errorf("%d entries of %d bytes", len(entries), len(data))
		}
		again, err := parseSegment(marshalSegment(entries))
		if err != nil || !maps.Equal(again, entries) {
			t.Errorf("%v, read again: %v, %v", entries, again, err)
		}
		for at := 1; err == nil && at+segmentEntry <= len(data) && at < maxSegment*segmentEntry && entries != nil; at += segmentEntry {
			if _, ok := entries[revocationKey(data[at:at+16])]; !ok {
				t.Errorf("the entry at %d is not there", at)
			}
		}
	})
}

// FuzzParseSegmentMember: a name says where the segment is, whatever else may be among the names.
func FuzzParseSegmentMember(f *testing.F) {
	f.Add("2026-11-23.10.0")
	f.Add("2026-11-23.10.9999")
	f.Add("../../x.0")
	f.Fuzz(func(t *testing.T, member string) {
		s, ok := parseSegmentMember(member)
		if ok && (s.member() != member || s.part < 0 || s.part > maxPart || len(s.key()) != len(folderRevoked)+1+len(member)) {
			t.Errorf("%q names %q", member, s.key())
		}
	})
}
