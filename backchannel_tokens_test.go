package openidconnect

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// set makes a claim what it is not in a good token; nil takes it out.
func set(name string, value any) func(optest.Claims) {
	return func(claims optest.Claims) {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
}

// withEvents makes events what it is not in a good token.
func withEvents(value any) func(optest.Claims) { return set("events", value) }

// Each of these tokens differs from a good one in exactly one thing (S-219; C-083 to C-086).
func TestS219ClaimsOfLogoutTokens(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "trusted_audiences friend")
	victim, other := b.signIn("alice", "session-1"), b.signIn("alice", "session-2")
	good := optest.BySIDAndSub("session-1", "alice")
	at := func(name string, from time.Duration) func(optest.Claims) {
		return set(name, time.Now().Add(from).Unix())
	}
	const slash = optest.LogoutEvent + "/"
	for name, test := range map[string]struct {
		edit   func(optest.Claims)
		reason string
	}{
		"no event":                          {withEvents(nil), "wrong_token_type"},
		"events null":                       {withEvents(jsonNull), "wrong_token_type"},
		"events empty":                      {withEvents(optest.Claims{}), "wrong_token_type"},
		"events a string":                   {withEvents(optest.LogoutEvent), "wrong_token_type"},
		"events a list":                     {withEvents([]string{optest.LogoutEvent}), "wrong_token_type"},
		"events a list of objects":          {withEvents([]any{optest.Claims{optest.LogoutEvent: optest.Claims{}}}), "wrong_token_type"},
		"wrong event":                       {withEvents(optest.Claims{"http://schemas.openid.net/event/frontchannel-logout": optest.Claims{}}), "wrong_token_type"},
		"event with a slash":                {withEvents(optest.Claims{slash: optest.Claims{}}), "wrong_token_type"},
		"event by https":                    {withEvents(optest.Claims{"https" + optest.LogoutEvent[4:]: optest.Claims{}}), "wrong_token_type"},
		"event in another case":             {withEvents(optest.Claims{strings.ToUpper(optest.LogoutEvent): optest.Claims{}}), "wrong_token_type"},
		"event of a revocation":             {withEvents(optest.Claims{"https://schemas.openid.net/secevent/caep/event-type/session-revoked": optest.Claims{}}), "wrong_token_type"},
		"event null":                        {withEvents(optest.Claims{optest.LogoutEvent: jsonNull}), "wrong_token_type"},
		"event true":                        {withEvents(optest.Claims{optest.LogoutEvent: true}), "wrong_token_type"},
		"event a string":                    {withEvents(optest.Claims{optest.LogoutEvent: "{}"}), "wrong_token_type"},
		"event a list":                      {withEvents(optest.Claims{optest.LogoutEvent: []any{}}), "wrong_token_type"},
		"event a number":                    {withEvents(optest.Claims{optest.LogoutEvent: 1}), "wrong_token_type"},
		"events deeper":                     {withEvents(optest.Claims{"x": optest.Claims{optest.LogoutEvent: optest.Claims{}}}), "wrong_token_type"},
		"the event as a claim":              {func(c optest.Claims) { delete(c, "events"); c[optest.LogoutEvent] = optest.Claims{} }, "wrong_token_type"},
		"nonce":                             {set("nonce", "n-0S6_WzA2Mj"), "wrong_token_type"},
		"nonce null":                        {set("nonce", jsonNull), "wrong_token_type"},
		"nonce empty":                       {set("nonce", ""), "wrong_token_type"},
		"nonce a number":                    {set("nonce", 1), "wrong_token_type"},
		"nobody":                            {func(c optest.Claims) { delete(c, "sub"); delete(c, "sid") }, "missing_claim"},
		"sid and sub null":                  {func(c optest.Claims) { c["sub"], c["sid"] = jsonNull, jsonNull }, "missing_claim"},
		"sid a number":                      {set("sid", 1), "missing_claim"},
		"sid a list":                        {set("sid", []string{"session-1"}), "missing_claim"},
		"sid an object":                     {set("sid", optest.Claims{}), "missing_claim"},
		"sid false":                         {set("sid", false), "missing_claim"},
		"sid empty":                         {set("sid", ""), "missing_claim"},
		"sid blank":                         {set("sid", " \t"), "missing_claim"},
		"sub a number":                      {set("sub", 1), "missing_claim"},
		"sub a list":                        {set("sub", []string{"alice"}), "missing_claim"},
		"sub empty":                         {set("sub", ""), "missing_claim"},
		"sub blank":                         {set("sub", " "), "missing_claim"},
		"sub empty, alone":                  {func(c optest.Claims) { c["sub"] = ""; delete(c, "sid") }, "missing_claim"},
		"sid empty, alone":                  {func(c optest.Claims) { c["sid"] = ""; delete(c, "sub") }, "missing_claim"},
		"no jti":                            {set("jti", nil), "missing_claim"},
		"jti null":                          {set("jti", jsonNull), "missing_claim"},
		"jti a number":                      {set("jti", 7), "missing_claim"},
		"jti empty":                         {set("jti", ""), "missing_claim"},
		"jti blank":                         {set("jti", "  "), "missing_claim"},
		"jti a list":                        {set("jti", []string{"x"}), "missing_claim"},
		"no iat":                            {set("iat", nil), "missing_claim"},
		"iat null":                          {set("iat", jsonNull), "malformed_token"},
		"iat a string":                      {set("iat", "1795400000"), "malformed_token"},
		"iat in the future":                 {at("iat", defaultClockSkew+time.Minute), "not_yet_valid"},
		"no exp":                            {set("exp", nil), "missing_claim"},
		"exp null":                          {set("exp", jsonNull), "malformed_token"},
		"exp a string":                      {set("exp", "9999999999"), "malformed_token"},
		"exp in the past":                   {at("exp", -defaultClockSkew-time.Second), "expired"},
		"nbf in the future":                 {at("nbf", defaultClockSkew+time.Minute), "not_yet_valid"},
		"wrong iss":                         {set("iss", "https://evil.example"), "wrong_issuer"},
		"no iss":                            {set("iss", nil), "wrong_issuer"},
		"iss null":                          {set("iss", jsonNull), "wrong_issuer"},
		"iss empty":                         {set("iss", ""), "wrong_issuer"},
		"iss with a slash":                  {set("iss", b.p.Issuer()+"/"), "wrong_issuer"},
		"iss a list":                        {set("iss", []string{b.p.Issuer()}), "wrong_issuer"},
		"wrong aud":                         {set("aud", "another"), "wrong_audience"},
		"no aud":                            {set("aud", nil), "wrong_audience"},
		"aud null":                          {set("aud", jsonNull), "wrong_audience"},
		"aud empty":                         {set("aud", ""), "wrong_audience"},
		"aud an empty list":                 {set("aud", []string{}), "wrong_audience"},
		"aud a number":                      {set("aud", 1), "wrong_audience"},
		"aud in another case":               {set("aud", "Client"), "wrong_audience"},
		"aud a list of others":              {set("aud", []string{"another", "third"}), "wrong_audience"},
		"aud a list with a stranger":        {set("aud", []string{"client", "stranger"}), "wrong_audience"},
		"aud a list with a number":          {set("aud", []any{"client", 1}), "wrong_audience"},
		"azp of another":                    {set("azp", "another"), "wrong_audience"},
		"azp of another, and a list":        {func(c optest.Claims) { c["aud"], c["azp"] = []string{"client", "stranger"}, "stranger" }, "wrong_audience"},
		"azp a list":                        {set("azp", []string{"client"}), "wrong_audience"},
		"the claims of an ID token":         {func(c optest.Claims) { delete(c, "events"); c["nonce"], c["auth_time"] = "n", c["iat"] }, "wrong_token_type"},
		"another's with ours as authorized": {func(c optest.Claims) { c["aud"], c["azp"] = "another", "client" }, "wrong_audience"},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			b.wantUntouched(func() { b.wantRefused(b.p.LogoutToken(good, test.edit), test.reason) }, victim, other)
		})
	}
	b.wantDone(b.p.LogoutToken(good))
	wantEnded(t, victim)
	wantAlive(t, other)
}

// What a token has beside what it must have does no harm (C-078; section 2.4 of the specification).
func TestGoodLogoutTokens(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "trusted_audiences friend")
	event := func(member optest.Claims) optest.Claims { return optest.Claims{optest.LogoutEvent: member} }
	for name, edit := range map[string]func(optest.Claims){
		"as it is":                 nil,
		"no sub":                   set("sub", nil),
		"sub null":                 set("sub", jsonNull),
		"sub of nobody":            set("sub", "bob"), // sid says which session it is
		"another event beside":     withEvents(optest.Claims{optest.LogoutEvent: optest.Claims{}, "https://example.com/event": optest.Claims{"a": 1}}),
		"an event of another kind": withEvents(optest.Claims{optest.LogoutEvent: optest.Claims{}, "https://example.com/event": "text"}),
		"an event with members":    withEvents(event(optest.Claims{"reason": "administrator", "nonce": "deeper"})),
		"unknown claims":           func(c optest.Claims) { c["x"], c["auth_time"], c["sid_hash"] = []int{1}, 5, jsonNull },
		"typ as a claim":           set("typ", "Logout"), // as Keycloak has it
		"a list of us":             set("aud", []string{"client"}),
		"a list with a friend":     set("aud", []string{"friend", "client"}),
		"a list and azp":           func(c optest.Claims) { c["aud"], c["azp"] = []string{"stranger", "client"}, "client" },
		"azp":                      set("azp", "client"),
		"exp within the skew":      set("exp", time.Now().Add(-defaultClockSkew/2).Unix()),
		"iat within the skew":      set("iat", time.Now().Add(defaultClockSkew/2).Unix()),
		"iat of yesterday":         set("iat", time.Now().Add(-24*time.Hour).Unix()), // for exp says how long it is good
		"exp of tomorrow":          set("exp", time.Now().Add(24*time.Hour).Unix()),
		"nbf of the past":          set("nbf", time.Now().Add(-time.Minute).Unix()),
		"fractions of seconds": func(c optest.Claims) {
			c["iat"], c["exp"] = float64(time.Now().Unix())+0.5, float64(time.Now().Unix())+90.25
		},
		"acr, amr and roles of a login": func(c optest.Claims) { c["acr"], c["amr"], c["roles"] = "gold", []string{"pwd"}, []string{"admin"} },
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			victim, other := b.signIn("alice", "session of "+name), b.signIn("alice", "another of "+name)
			b.wantDone(b.p.LogoutToken(optest.BySIDAndSub("session of "+name, "alice"), edit))
			wantEnded(t, victim)
			wantAlive(t, other)
		})
	}
	for name, header := range map[string]optest.Claims{
		"no typ":            {"typ": nil},
		"typ JWT":           {"typ": "JWT"},
		"typ jwt":           {"typ": "jwt"},
		"typ logout+jwt":    {"typ": "logout+jwt"},
		"typ in capitals":   {"typ": "LOGOUT+JWT"},
		"typ as a type":     {"typ": "application/logout+jwt"},
		"typ of type JWT":   {"typ": "application/JWT"},
		"unknown parameter": {"x-unknown": "y"},
		"no kid":            {"kid": nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			victim, other := b.signIn("alice", "session of "+name), b.signIn("alice", "another of "+name)
			b.wantDone(b.p.LogoutTokenWithHeader(header, optest.BySID("session of "+name)))
			wantEnded(t, victim)
			wantAlive(t, other)
		})
	}
}

// A logout token ends what its provider and its client may end: by the issuer and the keys of the tenant, of ID tokens, whatever bearer
// tokens are taken from.
func TestIssuersOfLogoutTokens(t *testing.T) {
	t.Parallel()
	t.Run("tenants", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		p.SetMetadata(func(m map[string]any) { m["issuer"] = p.URL() + "/{tenantid}/v2.0" })
		const ours, theirs = "9188040d-6c67-4c5b-b112-36a304b66dad", "72f988bf-86f1-41af-91ab-2d7cd011db47"
		at := func(tenant string) string { return p.URL() + "/" + tenant + "/v2.0" }
		from := func(issuer, tid any) func(optest.Claims) {
			return func(claims optest.Claims) { claims["iss"], claims["tid"] = issuer, tid }
		}
		p.SetIDTokenClaims(from(at(ours), ours))
		b := newBackchannelAt(t, p, newDiscoveredSite(t, p, "tenants "+ours))
		victim := b.signIn("alice", "s")
		for name, edit := range map[string]func(optest.Claims){
			"another tenant":                 from(at(theirs), theirs),
			"our tenant, another's issuer":   from(at(theirs), ours),
			"another tenant, and our issuer": from(at(ours), theirs),
			"no tenant":                      set("iss", at(ours)),
			"the template":                   from(p.URL()+"/{tenantid}/v2.0", "{tenantid}"),
		} {
			t.Run(name, func(t *testing.T) {
				b := b.in(t)
				b.wantUntouched(func() { b.wantRefused(p.LogoutToken(optest.BySID("s"), edit), "wrong_issuer") }, victim)
			})
		}
		b.wantDone(p.LogoutToken(optest.BySID("s"), from(at(ours), ours)))
		wantEnded(t, victim)
	})
	t.Run("valid_issuers", func(t *testing.T) {
		t.Parallel()
		b := newBackchannel(t, "audience api\nvalid_issuers https://other.example")
		victim := b.signIn("alice", "s")
		b.wantUntouched(func() {
			b.wantRefused(b.p.LogoutToken(optest.BySID("s"), set("iss", "https://other.example")), "wrong_issuer")
		}, victim)
		b.wantDone(b.p.LogoutToken(optest.BySID("s")))
		wantEnded(t, victim)
	})
}

// A token of another kind is none of logout, by its typ alone (RFC 8725 section 3.11).
func TestTypesOfLogoutTokens(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	victim := b.signIn("alice", "s")
	types := []string{
		"at+jwt", "application/at+jwt", "AT+JWT", "dpop+jwt", "secevent+jwt", "token-introspection+jwt", "oauth-authz-req+jwt",
		"client-authentication+jwt", "entity-statement+jwt", "id_token", "ID", "logout", "logout+jwt ", " logout+jwt", "logout+jwt;x",
		"application/", "application/application/logout+jwt", "text/logout+jwt", "JOSE", "JWE", "logout+jws", "+jwt", "x",
	}
	b.wantUntouched(func() {
		for _, kind := range types {
			b.wantRefused(b.p.LogoutTokenWithHeader(optest.Claims{"typ": kind}, optest.BySID("s")), "wrong_token_type")
		}
	}, victim)
	headers := map[string]any{"null": jsonNull, "a number": 1, "a list": []string{"logout+jwt"}}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		b.wantUntouched(func() {
			b.wantRefused(b.p.LogoutTokenWithHeader(optest.Claims{"typ": headers[name]}, optest.BySID("s")), "malformed_token")
		}, victim)
	}
	b.wantDone(b.p.LogoutToken(optest.BySID("s")))
	wantEnded(t, victim)
}
