package cluster

import (
	"fmt"
	"maps"
	"sync"
	"time"
)

// remembered is how long a token is known that has expired.
const remembered = 5 * time.Minute

// Tokens are the access tokens that a provider has given out.
type Tokens struct {
	mu     sync.Mutex
	issued map[string]*issuedToken
}

type issuedToken struct {
	expires time.Time
	seen    bool
}

// NewTokens returns none yet.
func NewTokens() *Tokens { return &Tokens{issued: make(map[string]*issuedToken)} }

// Issued notes the access token of an answer of the provider's token endpoint, at the moment that it is made.
func (k *Tokens) Issued(answer map[string]any) {
	token, _ := answer["access_token"].(string)
	seconds, ok := answer["expires_in"].(int)
	if !ok {
		panic(fmt.Sprintf("cluster: expires_in is a %T", answer["expires_in"]))
	}
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.issued, func(_ string, token *issuedToken) bool { return now.Sub(token.expires) > remembered })
	k.issued[token] = &issuedToken{expires: now.Add(time.Duration(seconds) * time.Second)}
}

// Late returns how long after its end a token was used, which is negative before that, and whether nobody had used it before.
func (k *Tokens) Late(token string, at time.Time) (late time.Duration, isNew, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	issued := k.issued[token]
	if issued == nil {
		return 0, false, false
	}
	isNew, issued.seen = !issued.seen, true
	return at.Sub(issued.expires), isNew, true
}
