package session

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"
)

// Owner is the provider and the client that a session belongs to.
type Owner struct{ Issuer, ClientID string }

// The index leads from what a provider calls its session, and from whom it calls its user, to the sessions here. It has sets
// of members, of which each names a session's record and when its ID token was issued. All names are hashed.

func (o Owner) sidSet(sid string) string     { return "sid/" + o.hash(sid) }
func (o Owner) subjectSet(sub string) string { return "sub/" + o.hash(sub) }

// sets are those that a session belongs in.
func (o Owner) sets(sess *Session) []string {
	var sets []string
	if sess.SID != "" {
		sets = append(sets, o.sidSet(sess.SID))
	}
	if sess.Subject != "" {
		sets = append(sets, o.subjectSet(sess.Subject))
	}
	return sets
}

// hash writes each text after its length, so that no two lists of texts give the same.
func (o Owner) hash(name string) string {
	var texts []byte
	for _, text := range [...]string{o.Issuer, o.ClientID, name} {
		texts = binary.AppendUvarint(texts, uint64(len(text)))
		texts = append(texts, text...)
	}
	sum := sha256.Sum256(texts)
	return hex.EncodeToString(sum[:])
}

// indexMember is the same for as long as the session lives: IDTokenIssued is that of the login's ID token.
func indexMember(ref *Reference, sess *Session) string {
	issued := int64(0)
	if !sess.IDTokenIssued.IsZero() {
		issued = min(max(sess.IDTokenIssued.Unix(), 0), maxSeconds)
	}
	return ref.Expires.UTC().Format(time.DateOnly) + "." + ref.recordName() + "." + strconv.FormatInt(issued, 10)
}

// parseMember returns the key of the record that a member names. What is not a member, such as a file that is being written,
// is passed over.
func parseMember(member string) (key string, issued int64, ok bool) {
	day, rest, _ := strings.Cut(member, ".")
	name, seconds, _ := strings.Cut(rest, ".")
	if _, err := time.Parse(time.DateOnly, day); err != nil || len(name) != 2*sha256.Size || strings.Trim(name, "0123456789abcdef") != "" {
		return "", 0, false
	}
	issued, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || strconv.FormatInt(issued, 10) != seconds {
		return "", 0, false
	}
	return recordKey(day, name), issued, true
}

// Create writes a new session, and the entries by which a logout finds it. The entries come first: one that leads to nothing
// does no harm, but a session that no logout finds would.
func (s *Store) Create(ctx context.Context, owner Owner, ref *Reference, sess *Session) error {
	member := indexMember(ref, sess)
	var err error
	for _, set := range owner.sets(sess) {
		if err = s.backend.Add(ctx, set, member, ref.Expires); err != nil {
			err = fmt.Errorf("indexing a session: %w", err)
			break
		}
	}
	if err == nil {
		err = s.Save(ctx, ref, sess)
	}
	if err != nil {
		// what cannot be removed is of no use either: nobody gets the reference
		_ = s.Delete(ctx, owner, ref, sess)
		return err
	}
	return nil
}

// EndBySID deletes the sessions that the provider calls by that name. It returns how many there were.
func (s *Store) EndBySID(ctx context.Context, owner Owner, sid string) (int, error) {
	if sid == "" {
		return 0, nil
	}
	return s.end(ctx, owner.sidSet(sid), math.MaxInt64)
}

// EndBySubject deletes the user's sessions, but for those whose ID token was issued later. It returns how many there were.
func (s *Store) EndBySubject(ctx context.Context, owner Owner, sub string, issuedNotAfter time.Time) (int, error) {
	if sub == "" {
		return 0, nil
	}
	return s.end(ctx, owner.subjectSet(sub), issuedNotAfter.Unix())
}

// end deletes the records that a set leads to. One that cannot be deleted does not save the others. The members stay: a renewal
// or a login that is writing at this moment is found when the logout is repeated.
func (s *Store) end(ctx context.Context, set string, issuedNotAfter int64) (ended int, err error) {
	members, err := s.backend.Members(ctx, set)
	if err != nil {
		return 0, fmt.Errorf("finding the sessions to end: %w", err)
	}
	for _, member := range members {
		key, issued, ok := parseMember(member)
		if !ok || issued > issuedNotAfter {
			continue
		}
		_, failed := s.backend.Load(ctx, key)
		if errors.Is(failed, fs.ErrNotExist) {
			continue
		}
		if failed = s.backend.Delete(ctx, key); failed == nil {
			ended++
		} else if err == nil {
			err = fmt.Errorf("ending a session: %w", failed)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return ended, err
}
