package optest

import (
	"container/list"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// grantRefresh is the grant_type of a refresh.
const grantRefresh = "refresh_token"

const (
	// keptFamilies is how many families that are good, and how many that are not, are
	// remembered: those used last.
	keptFamilies = 10_000
	// keptGenerations is how many refresh tokens of a family are remembered.
	keptGenerations = 256
)

// refreshes is what the provider keeps for the refresh token grant.
type refreshes struct {
	families map[string]*family // by refresh token, also by those that are spent
	live     *list.List         // of families, the one used last at the back
	dead     *list.List
	users    map[string]Claims // the newest claims by subject
	grantsOf map[string]int    // by subject

	grants   int
	attempts int
	reuses   int

	noRotation  bool
	omitted     bool // the refresh token, in answers to refreshes
	fault       *Fault
	failureRate float64
	random      *mathrand.Rand
	lose        int // answers
}

// family is what one login may refresh, and all refresh tokens that came of it.
type family struct {
	grant   grant
	tokens  []string // oldest first; only the last is not spent
	dead    bool
	element *list.Element
}

func newRefreshes() refreshes {
	return refreshes{
		families: make(map[string]*family),
		live:     list.New(),
		dead:     list.New(),
		users:    make(map[string]Claims),
		grantsOf: make(map[string]int),
	}
}

// subject is the sub of a user, which need not be a text here.
func subject(user Claims) string { return fmt.Sprint(user["sub"]) }

func isRefresh(endpoint string, request RecordedRequest) bool {
	return endpoint == Token && request.Form.Get("grant_type") == grantRefresh
}

// startFamily returns the first refresh token of a login.
func (p *Provider) startFamily(g *grant) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &family{grant: *g}
	f.grant.nonce, f.grant.refreshed = "", true
	f.element = p.refreshes.live.PushBack(f)
	p.refreshes.trim(p.refreshes.live)
	return p.refreshes.next(f)
}

// refresh answers a token request with a refresh token. Whatever the request is
// refused for, except that the token is spent, leaves the token as good as it was.
func (p *Provider) refresh(form url.Values) response {
	if form.Get("refresh_token") == "" || repeated(form) {
		return answerError(http.StatusBadRequest, "invalid_request")
	}
	p.mu.Lock()
	g, token, refusal := p.refreshes.redeem(form, p.clientID)
	omitted := p.refreshes.omitted
	lost := refusal == "" && p.refreshes.lose > 0
	if lost {
		p.refreshes.lose--
	}
	p.mu.Unlock()
	if refusal != "" {
		return answerError(http.StatusBadRequest, refusal)
	}
	if omitted {
		token = ""
	}
	answer := p.issue(g, token)
	answer.lost = lost
	return answer
}

// redeem returns what a refresh token is good for and the one that comes after it,
// or the error code. The caller holds mu.
func (s *refreshes) redeem(form url.Values, client string) (g *grant, token, refusal string) {
	token = form.Get("refresh_token")
	f := s.families[token]
	switch {
	case f == nil || f.grant.client != client:
		return nil, "", "invalid_grant"
	case token != f.tokens[len(f.tokens)-1]:
		s.reuses++
		s.kill(f)
		return nil, "", "invalid_grant"
	case f.dead:
		return nil, "", "invalid_grant"
	}
	granted := f.grant
	if form.Get("scope") != "" {
		granted.scope = form.Get("scope")
	}
	for scope := range strings.FieldsSeq(granted.scope) {
		if !hasScope(f.grant.scope, scope) {
			return nil, "", "invalid_scope"
		}
	}
	if user, ok := s.users[subject(granted.user)]; ok {
		f.grant.user, granted.user = user, user
	}
	s.grants++
	s.grantsOf[subject(granted.user)]++
	s.live.MoveToBack(f.element)
	// Who is not told a new one keeps the old one.
	if !s.noRotation && !s.omitted {
		token = s.next(f)
	}
	return &granted, token, ""
}

// next gives a family its next refresh token.
func (s *refreshes) next(f *family) string {
	token := rand.Text()
	f.tokens = append(f.tokens, token)
	s.families[token] = f
	if len(f.tokens) > keptGenerations {
		delete(s.families, f.tokens[0])
		f.tokens = slices.Delete(f.tokens, 0, 1)
	}
	return token
}

// kill makes all refresh tokens of a family invalid.
func (s *refreshes) kill(f *family) {
	if f.dead {
		return
	}
	f.dead = true
	s.live.Remove(f.element)
	f.element = s.dead.PushBack(f)
	s.trim(s.dead)
}

// killAll kills the families that match.
func (s *refreshes) killAll(matches func(*family) bool) {
	for element := s.live.Front(); element != nil; {
		f := element.Value.(*family)
		element = element.Next()
		if matches(f) {
			s.kill(f)
		}
	}
}

// trim forgets the families that were used longest ago when there are too many.
func (s *refreshes) trim(families *list.List) {
	for families.Len() > keptFamilies {
		f := families.Remove(families.Front()).(*family)
		for _, token := range f.tokens {
			delete(s.families, token)
		}
	}
}

// attempt counts a request and returns the fault that applies to it, if any. The
// caller holds mu.
func (s *refreshes) attempt() *Fault {
	s.attempts++
	if fault := take(&s.fault); fault != nil {
		return fault
	}
	if s.random != nil && s.random.Float64() < s.failureRate {
		return &Fault{Status: http.StatusServiceUnavailable}
	}
	return nil
}
