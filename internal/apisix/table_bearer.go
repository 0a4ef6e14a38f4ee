package apisix

import (
	"regexp"
	"slices"
	"strings"
)

func bearerTable() []attribute {
	return []attribute{
		{
			name: "bearer_only", kind: flagType, outcome: Translated, setting: "bearer_only",
			note: "APISIX also takes the token from `X-Access-Token`; here that takes `bearer_token_from header X-Access-Token`.", convert: later,
		},
		{
			name: "use_jwks", kind: flagType, outcome: Translated, setting: "introspection",
			note: "JWTs are verified with the provider's keys as a rule; `introspection off` keeps other tokens out, as APISIX does.", convert: later,
		},
		{
			name: "public_key", kind: textType, outcome: Changed, setting: "public_key",
			guards: true,
			note: "With `bearer_only`. Where people log in as well, the keys of the provider verify bearer tokens instead. RSA from 2048 bits. Of several " +
				"keys the first alone is written, as in APISIX.",
			convert: (*conversion).keyOfTokens,
		},
		{
			name: "introspection_endpoint", kind: textType, outcome: Translated, setting: "introspection_endpoint",
			note: "With `introspection always`: every token is introspected, JWTs too, as in APISIX.", convert: later,
		},
		{
			name: "realm", kind: textType, outcome: Translated, setting: "realm",
			note: "Without it `openid_connect` instead of `apisix`.",
			convert: func(c *conversion, name string) {
				if strings.ContainsFunc(c.text(name), func(r rune) bool { return r < ' ' || r > '~' }) {
					c.refused(name, "only printable ASCII can stand in WWW-Authenticate")
					return
				}
				copied(name)(c, name)
			},
		},
		{
			name: "required_scopes", kind: textList, outcome: Translated, setting: "required_scopes",
			note: "Scopes count in `scope`, `scp` or `scopes`. For sessions those that the provider says it granted count, where APISIX reads an " +
				"access token that nobody has verified.",
			convert: func(c *conversion, name string) {
				if len(c.texts(name)) == 0 {
					c.noOp(name, "it is empty")
					return
				}
				if slices.ContainsFunc(c.texts(name), func(scope string) bool { return !isScope(scope) }) {
					c.refused(name, "has what cannot be a scope, which nobody could ever be granted")
					return
				}
				if c.write(name, name, c.texts(name)...) {
					c.translated(name, name, "the scopes of a token may stand in scp or scopes as well")
				}
			},
		},
		{
			name: "token_signing_alg_values_expected", kind: textType, outcome: Translated, setting: "token_signing_alg_values_expected",
			note:    "Without it every algorithm with a public key. HS256 and its like are refused: their key would be another one here.",
			guards:  true,
			convert: ofBearers(later),
		},
		{
			name: "iat_slack", kind: wholeNumber, outcome: Translated, setting: "clock_skew",
			note: "For exp, nbf and iat, at most 10m. Without it 60s instead of 120s.", convert: spanned("clock_skew", 0, 600),
		},
		{
			name: "introspection_interval", kind: wholeNumber, outcome: Translated, setting: "introspection_interval",
			note: "0 means nothing in APISIX; here it would ask with every request, so it is not written.",
			convert: ofIntrospection(func(c *conversion, name string) {
				if c.number(name, 0) <= 0 {
					c.noOp(name, "0 has no meaning in APISIX; answers are believed until the token expires, at most 5m")
					return
				}
				c.span(name, name, 1, 86400)
			}),
		},
		{
			name: "introspection_expiry_claim", kind: textType, outcome: Translated, setting: "introspection_expiry_claim", guards: true,
			convert: ofIntrospection(func(c *conversion, name string) {
				if strings.TrimSpace(c.text(name)) == "" {
					c.noOp(name, "it is empty")
					return
				}
				c.write(name, name, c.text(name))
			}),
		},
		{
			name: "introspection_addon_headers", kind: textList, outcome: Translated, setting: "introspection_addon_headers",
			convert: ofIntrospection((*conversion).addonHeaders),
		},
		{
			name: "jwt_verification_cache_ignore", kind: flagType, outcome: Translated, setting: "token_cache",
			note: "As `token_cache 0`. Remembered tokens are forgotten when they expire or their key is withdrawn, so this is rarely needed.",
			convert: ofBearers(func(c *conversion, name string) {
				if !c.flag(name, false) {
					c.noOp(name, "off, as here")
					return
				}
				c.add("token_cache", "0")
				c.translated(name, "token_cache 0", "")
			}),
		},
		{
			name: "cache_segment", kind: textType, outcome: NoOp,
			note:    "Results are remembered for each provider and client apart.",
			convert: needless("results are remembered for each provider and client apart"),
		},
		holder("claim_validator", "", ""),
		holder("claim_validator.issuer", "valid_issuers", ""),
		{
			name: "claim_validator.issuer.valid_issuers", kind: textList, outcome: Changed, setting: "valid_issuers",
			note:    "The provider's own issuer is accepted besides, and all tokens must be signed with its keys.",
			convert: ofBearers((*conversion).validIssuers),
		},
		{
			name: "claim_validator.audience", kind: container, outcome: Changed, setting: "audience",
			note: "Without `match_with_client_id` APISIX takes tokens that were made for any service. Here the token must name the `client_id`, or what " +
				"`audience` lists.",
			convert: (*conversion).unmatchedAudience,
			absent:  (*conversion).unmatchedAudience,
		},
		{
			name: "claim_validator.audience.claim", kind: textType, outcome: Translated, setting: "audience_claim", guards: true,
			convert: ofBearers(copied("audience_claim")),
		},
		{
			name: "claim_validator.audience.required", kind: flagType, outcome: Translated, setting: "audience",
			note: "An audience is always required.",
			convert: ofBearers(func(c *conversion, name string) {
				if c.flag(name, false) {
					c.namedAudience(name, "an audience is always required")
					return
				}
				c.noOp(name, "an audience is always required")
			}),
		},
		{
			name: "claim_validator.audience.match_with_client_id", kind: flagType, outcome: Translated, setting: "audience",
			note: "What happens by default.",
			convert: ofBearers(func(c *conversion, name string) {
				if c.flag(name, false) {
					c.namedAudience(name, "the client_id is the default")
					return
				}
				c.changed(name, "audience", "the client_id must be in the token all the same, unless audience lists something else")
			}),
		},
		{
			name: "claim_schema", kind: freeObject, outcome: Refused, near: "required_claim", guards: true,
			note: "Write `required_claim` lines. With `bearer_only`, a schema of nothing but `required`, `const` and `enum` at its top becomes those. " +
				"They are laxer: a list passes when one of its elements does, an object by the name of a member, and the text `true` passes for `true`; " +
				"so `const` and `enum` on scopes, which pass by one of their words, are not written. " +
				"A refused schema lets more people in than before: the first lines of the Caddyfile say so.",
			convert: (*conversion).schema,
		},
	}
}

// namedAudience demands an audience of introspected tokens too, which by default need none when they were issued to the client itself.
func (c *conversion) namedAudience(name, standard string) {
	if !c.introspects() {
		c.translated(name, "audience", standard)
		return
	}
	delete(c.lines, "audience")
	if c.write("client_id", "audience", c.text("client_id")) {
		c.translated(name, "audience", "written, so that answers of introspection must name it as well")
	}
}

// unmatchedAudience tells of the check that APISIX leaves out by default.
func (c *conversion) unmatchedAudience(name string) {
	if !c.bearer || c.has(name+".match_with_client_id") {
		return // which tells of it itself
	}
	note := "APISIX takes tokens that were made for any service; here they must name the client_id. Write audience with what your tokens " +
		"carry, or audience any to go without"
	if !c.has(name) {
		note = "not in the plugin: " + note
	}
	c.changed(name, "audience", note)
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func (c *conversion) addonHeaders(name string) {
	var names []string
	for _, header := range c.texts(name) {
		if !headerName.MatchString(header) {
			c.refused(name, "has what is not the name of a header")
			return
		}
		names = append(names, header)
	}
	if len(names) == 0 {
		c.noOp(name, "it is empty")
		return
	}
	c.write(name, name, names...)
}

func (c *conversion) validIssuers(name string) {
	var others []string
	for _, issuer := range c.texts(name) {
		if strings.TrimSpace(issuer) != "" && issuer != c.issuer() && !slices.Contains(others, issuer) {
			others = append(others, issuer)
		}
	}
	switch {
	case c.staticKey() && len(c.texts(name)) == 1 && usableURL(c.texts(name)[0]):
		c.translated(name, "issuer", "")
	case len(others) == 0 && slices.Contains(c.texts(name), c.issuer()) && c.issuer() != "":
		c.translated(name, "issuer", "the provider's own issuer, as by default")
	case len(c.texts(name)) == 0:
		c.noOp(name, "it is empty")
	case len(others) == 0:
		c.changed(name, "issuer", "no issuer is in it, so APISIX takes no token; the provider's own are accepted here")
		c.opens = true
	case c.write(name, "valid_issuers", others...):
		c.changed(name, "valid_issuers", "the provider's own issuer is accepted besides, and its keys must have signed")
	}
}
