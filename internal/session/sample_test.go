package session

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// sample is what a version of this module sealed, stored and wrote. It must be readable for ever: people who are
// logged in stay so when the module is replaced by a newer one. The file is never written anew; a new form gets another one.
type sample struct {
	Secrets    []string          `json:"secrets"` // the second one is stretched
	Binding    Binding           `json:"binding"`
	Session    string            `json:"session"`
	Deflated   string            `json:"deflated"`
	Reference  string            `json:"reference"`
	Stretched  string            `json:"stretched"` // the session, under the second secret
	Generated  string            `json:"generated"` // the session, under the key ring
	State      string            `json:"state"`
	Login      string            `json:"transaction"`
	Storage    map[string][]byte `json:"storage"`
	StoredTime time.Time         `json:"stored_time"`
}

func readSample(tb testing.TB, name string) *sample {
	tb.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	s := new(sample)
	if err := json.Unmarshal(text, s); err != nil {
		tb.Fatal(err)
	}
	return s
}

// What the samples have, with the fields that there were then.
var (
	sampleSession = Session{
		ID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Subject: "alice", SID: "session at the provider",
		Claims: `{"sub":"alice","name":"Алиса"}`, IDTokenClaims: `{"sub":"alice"}`,
		AccessToken: "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.AAECAwQFBgcICQoL", RefreshToken: "refresh!",
		IDToken: "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImF1ZCI6ImFwcCJ9.AAECAwQFBgcICQoM", Scope: "openid email",
		Created: time.Unix(1_800_000_000, 0).UTC(), LastUsed: time.Unix(1_800_000_060, 0).UTC(),
		AccessExpires: time.Unix(1_800_000_300, 0).UTC(), IDTokenIssued: time.Unix(1_799_999_999, 0).UTC(),
		Generation: 7,
	}
	sampleTransaction = Transaction{
		State: [32]byte{31: 9}, Nonce: "nonce", Verifier: "verifier", RedirectURI: "https://app.example.com/oauth2/callback",
		ReturnURL: "/deep?link=1", Created: time.Unix(1_800_000_000, 0).UTC(), Attempt: 2,
		MaxAge: time.Hour, HasMaxAge: true, ACRValues: "gold silver",
	}
	sampleState = State{
		Random: [32]byte{1}, ReturnURL: "/deep?link=1", Created: time.Unix(1_800_000_000, 0).UTC(), Attempt: 2, Prompt: "login",
	}
	sampleReference = Reference{ID: [16]byte{1, 2}, Key: [32]byte{3, 4}, Expires: time.Unix(1_800_086_400, 0).UTC()}
	sampleRenewal   = Renewal{
		Generation: 7, Sealed: "sealed cookie", Until: time.UnixMilli(1_800_000_120_001).UTC(),
		Replaced: []Replaced{{6, time.UnixMilli(1_800_000_119_002).UTC()}, {5, time.UnixMilli(1_800_000_118_003).UTC()}},
		Failures: 3, RetryAt: time.UnixMilli(1_800_000_030_004).UTC(),
	}
)

// sampleRenewed is the session as it has been written since there are renewals.
func sampleRenewed() *Session {
	sess := sampleSession
	sess.AccessExpires, sess.Renewed = time.UnixMilli(1_800_000_300_123).UTC(), time.UnixMilli(1_800_000_060_456).UTC()
	sess.NonceHash = [16]byte{0x78, 0x37, 0x7b, 0x52, 0x57, 0x57, 0xb4, 0x94, 0x42, 0x7f, 0x89, 0x01, 0x4f, 0x97, 0xd7, 0x99}
	sess.UserinfoClaims = "email\x00name"
	return &sess
}

func sampleDeflated() *Session {
	sess := sampleSession
	sess.Claims = `{"groups":["` + strings.Repeat(`/staff/engineering","`, 300) + `"]}`
	return &sess
}

func TestSample(t *testing.T) {
	t.Parallel()
	old := readSample(t, "sealed-1.json")
	ctx := t.Context()
	secrets := NewSealer(secretKeys(t, old.Secrets...))
	storage := newMemoryStorage()
	for key, value := range old.Storage {
		storage.set(key, string(value))
	}
	now := func() time.Time { return old.StoredTime }
	logger, logs := observed()
	ring := NewSealer(NewKeyRing(storage, logger, now))

	for name, test := range map[string]struct {
		sealer  *Sealer
		sealed  string
		want    *Session
		current bool
	}{
		"session":   {secrets, old.Session, &sampleSession, true},
		"deflated":  {secrets, old.Deflated, sampleDeflated(), true},
		"stretched": {secrets, old.Stretched, &sampleSession, false},
		"generated": {ring, old.Generated, &sampleSession, true},
	} {
		got, current, err := openSession(ctx, test.sealer, old.Binding, test.sealed)
		if err != nil || current != test.current || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v, %v", name, got, current, err)
		}
	}
	if got, _, err := openReference(ctx, secrets, old.Binding, old.Reference); err != nil || *got != sampleReference {
		t.Errorf("reference: %+v, %v", got, err)
	}
	if text, _, err := secrets.Open(ctx, PurposeTransaction, old.Binding, old.Login); err != nil {
		t.Errorf("transaction: %v", err)
	} else if got, err := ParseTransaction(text); err != nil || *got != sampleTransaction {
		t.Errorf("transaction: %+v, %v", got, err)
	}
	if text, _, err := secrets.Open(ctx, PurposeState, old.Binding, old.State); err != nil {
		t.Errorf("state: %v", err)
	} else if got, err := ParseState(text); err != nil || *got != sampleState {
		t.Errorf("state: %+v, %v", got, err)
	}
	if got, err := NewStore(testBackend(storage), now).Load(ctx, &sampleReference); err != nil || *got != sampleSession {
		t.Errorf("record: %+v, %v", got, err)
	}
	wantWarnings(t, logs, 0)
}

// TestSampleRenewals reads what was written first when there were renewals and an index.
func TestSampleRenewals(t *testing.T) {
	t.Parallel()
	old := readSample(t, "sealed-2.json")
	ctx := t.Context()
	secrets := NewSealer(secretKeys(t, old.Secrets...))
	storage := newMemoryStorage()
	for key, value := range old.Storage {
		storage.set(key, string(value))
	}
	now := func() time.Time { return old.StoredTime }
	backend := NewCaddyBackend(storage, now, zap.NewNop())
	store, renewals := NewStore(backend, now), NewRenewals(backend, now)
	reference := sampleReference
	reference.LastUsed = time.Unix(1_800_000_060, 0).UTC()

	if got, current, err := openSession(ctx, secrets, old.Binding, old.Session); err != nil || !current || !reflect.DeepEqual(got, sampleRenewed()) {
		t.Errorf("session: %+v, %v, %v", got, current, err)
	}
	if got, _, err := openReference(ctx, secrets, old.Binding, old.Reference); err != nil || *got != reference {
		t.Errorf("reference: %+v, %v", got, err)
	}
	if got, err := store.Load(ctx, &reference); err != nil || !reflect.DeepEqual(got, sampleRenewed()) {
		t.Errorf("record: %+v, %v", got, err)
	}
	if got, err := renewals.Load(ctx, reference.ID, reference.Expires); err != nil || !reflect.DeepEqual(got, &sampleRenewal) {
		t.Errorf("renewal: %+v, %v", got, err)
	}
	ended := &Renewal{Generation: 9, Ended: true}
	if got, err := renewals.Load(ctx, sampleSession.ID, reference.Expires); err != nil || !reflect.DeepEqual(got, ended) {
		t.Errorf("ended: %+v, %v", got, err)
	}
	owner := Owner{"https://id.example.com", "app"}
	if members, err := backend.Members(ctx, owner.subjectSet("alice")); err != nil || len(members) != 1 {
		t.Errorf("subject: %q, %v", members, err)
	}
	if ended, err := store.EndBySID(ctx, owner, "session at the provider"); err != nil || ended != 1 {
		t.Errorf("index: %d, %v", ended, err)
	}
}
