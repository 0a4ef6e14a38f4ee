package openidconnect

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	// transactionLifetime is how long a user may take at the provider.
	transactionLifetime = 15 * time.Minute
	// maxTransactions and maxTransactionBytes bound the logins that one browser has under way; the oldest is dropped.
	maxTransactions     = 8
	maxTransactionBytes = 4 << 10
	// maxOwnCookies bounds transactions and session together: Caddy refuses request headers over 16 KiB, and a browser has some of its own.
	maxOwnCookies = 14_000
)

// visit is what a request brings of a browser's logins and sessions.
type visit struct {
	secure      bool   // the public scheme is https
	keep        bool   // do not delete the session's cookie: the browser has a newer one, or another handler of the site accepts it
	cookieBytes int32  // in Cookie, ours and others
	host        string // that cookies are bound to: without its port, not yet checked, or cookie_domain
	cookies     session.Received

	reply   []string         // cookies that the answer sets or deletes
	carried *session.Session // that they are of, where it could be opened
	renewed string           // the sealed session that the browser does not have yet
}

// binding is what everything sealed for this browser is bound to.
func (l *login) binding(v *visit, cookieName string) session.Binding {
	return session.Binding{CookieName: cookieName, Issuer: l.issuer, ClientID: l.clientID, Host: v.host, Checks: l.checks}
}

// openTransaction returns the login that a state belongs to, if this browser has started it and it is young enough.
func (l *login) openTransaction(ctx context.Context, v *visit, state *session.State, now time.Time) (*session.Transaction, Reason) {
	name := l.cookies.TransactionName(v.secure, state.Random)
	i := slices.IndexFunc(v.cookies.Transactions, func(value session.Value) bool { return value.Name == name })
	if i < 0 {
		return nil, reasonTransactionMissing
	}
	transaction := l.readTransaction(ctx, v, v.cookies.Transactions[i])
	switch {
	case transaction == nil, subtle.ConstantTimeCompare(transaction.State[:], state.Random[:]) != 1:
		return nil, reasonTransactionMissing
	case now.Sub(transaction.Created) >= transactionLifetime:
		return nil, reasonTransactionExpired
	default:
		return transaction, ""
	}
}

// readTransaction opens a transaction's cookie; nil when it is not one.
func (l *login) readTransaction(ctx context.Context, v *visit, cookie session.Value) *session.Transaction {
	text, _, err := l.sealer.Open(ctx, session.PurposeTransaction, l.binding(v, cookie.Name), cookie.Value)
	if err != nil {
		return nil
	}
	transaction, err := session.ParseTransaction(text)
	if err != nil {
		return nil
	}
	return transaction
}

// hasLiveTransaction reports whether any login of this browser is under way.
func (l *login) hasLiveTransaction(ctx context.Context, v *visit, now time.Time) bool {
	return slices.ContainsFunc(v.cookies.Transactions, func(cookie session.Value) bool {
		transaction := l.readTransaction(ctx, v, cookie)
		return transaction != nil && now.Sub(transaction.Created) < transactionLifetime
	})
}

// openState opens the state parameter; nil when it is not of our making, for this host.
func (l *login) openState(ctx context.Context, v *visit, text string) *session.State {
	if text == "" {
		return nil
	}
	opened, _, err := l.sealer.Open(ctx, session.PurposeState, l.binding(v, ""), text)
	if err != nil {
		return nil
	}
	state, err := session.ParseState(opened)
	if err != nil {
		return nil
	}
	return state
}

// begin seals a new transaction into a cookie of the reply and returns the state parameter that finds it again. Logins that the
// browser has had under way for longest make room.
func (l *login) begin(ctx context.Context, v *visit, transaction *session.Transaction, prompt string) (state string, err error) {
	name := l.cookies.TransactionName(v.secure, transaction.State)
	sealed, err := l.sealer.Seal(ctx, session.PurposeTransaction, l.binding(v, name), transaction.Marshal())
	if err != nil {
		return "", err
	}
	state, err = l.sealer.Seal(ctx, session.PurposeState, l.binding(v, ""), (&session.State{
		Random: transaction.State, ReturnURL: stateReturnURL(transaction.ReturnURL), Created: transaction.Created,
		Attempt: transaction.Attempt, Prompt: prompt,
	}).Marshal())
	if err != nil {
		return "", err
	}
	l.makeRoom(ctx, v, len(name)+len(sealed), transaction.Created)
	v.reply = append(v.reply, l.cookies.Transaction(v.secure, transaction.State, sealed))
	return state, nil
}

// makeRoom deletes what is no transaction or too old, and then the oldest ones until a new one of this size fits.
func (l *login) makeRoom(ctx context.Context, v *visit, size int, now time.Time) {
	type pending struct {
		name    string
		size    int
		created time.Time
	}
	var kept []pending
	for _, cookie := range v.cookies.Transactions {
		transaction := l.readTransaction(ctx, v, cookie)
		if transaction == nil || now.Sub(transaction.Created) >= transactionLifetime {
			v.reply = append(v.reply, l.cookies.DeleteTransaction(v.secure, cookie.Name))
			continue
		}
		kept = append(kept, pending{cookie.Name, len(cookie.Name) + len(cookie.Value), transaction.Created})
		size += len(cookie.Name) + len(cookie.Value)
	}
	limit := maxOwnCookies
	for _, sealed := range v.cookies.Session {
		limit -= len(sealed)
	}
	limit = min(limit, maxTransactionBytes)
	slices.SortStableFunc(kept, func(a, b pending) int { return a.created.Compare(b.created) })
	for len(kept) > 0 && (len(kept) >= maxTransactions || size > limit) {
		v.reply = append(v.reply, l.cookies.DeleteTransaction(v.secure, kept[0].name))
		size -= kept[0].size
		kept = kept[1:]
	}
}

// randomText is 32 random bytes as text: a nonce or a PKCE verifier (RFC 7636 section 4.1).
func randomText() string {
	var random [32]byte
	rand.Read(random[:])
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// challengeOf is the PKCE challenge of a verifier (RFC 7636 section 4.2, S256).
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
