package openidconnect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// findingLevel says how much a finding matters.
type findingLevel string

const (
	findingOK      findingLevel = "ok"
	findingNote    findingLevel = "note"
	findingWarning findingLevel = "warning" // it works, but
	findingProblem findingLevel = "problem" // it does not work
)

// finding is one thing that was looked at.
type finding struct {
	Level    findingLevel `json:"level"`
	About    string       `json:"about"`
	Text     string       `json:"text"`
	Expected string       `json:"expected,omitempty"`
	Got      string       `json:"got,omitempty"`
	Hint     string       `json:"hint,omitempty"`
}

// inspected is what is made of a provider's metadata and keys for those who want to use it.
type inspected struct {
	Issuer    string              `json:"issuer"`
	Discovery string              `json:"discovery"` // where the metadata came from
	Usable    bool                `json:"usable"`
	Logins    bool                `json:"logins"` // it logs users in; if not, its tokens may still be accepted
	Findings  []finding           `json:"findings"`
	Endpoints map[string]string   `json:"endpoints"`
	Keys      []keyStatus         `json:"keys"`
	Supported map[string][]string `json:"supported"`
	Register  []registration      `json:"register,omitempty"` // what the provider wants to know of the site
	Caddyfile string              `json:"caddyfile,omitempty"`

	confirmed bool               // the issuer alone leads to the metadata
	metadata  *provider.Metadata // nil where it cannot be used
	document  map[string]any
}

// registration is an address to tell the provider.
type registration struct {
	What    string `json:"what"`
	Address string `json:"address"`
}

func (i *inspected) find(level findingLevel, about, text string) *finding {
	i.Findings = append(i.Findings, finding{Level: level, About: about, Text: text})
	return &i.Findings[len(i.Findings)-1]
}

// metadataLists are the lists of the metadata that are shown as they are.
var metadataLists = []string{
	"scopes_supported", "response_types_supported", "response_modes_supported", "grant_types_supported", "acr_values_supported",
	"token_endpoint_auth_methods_supported", "id_token_signing_alg_values_supported", "code_challenge_methods_supported",
	"prompt_values_supported", "claims_supported", "dpop_signing_alg_values_supported",
}

// inspect judges what a provider says of itself. given is the issuer that the user has named; empty if it was a discovery URL. confirmed
// says that the metadata of the stated issuer is where that issuer has it.
func inspect(in *provider.Inspection, given string, confirmed bool) *inspected {
	i := &inspected{
		Discovery: in.Address, Keys: []keyStatus{}, confirmed: confirmed, metadata: in.Metadata, document: in.Document,
		Endpoints: make(map[string]string), Supported: make(map[string][]string),
	}
	i.Issuer, _ = in.Document["issuer"].(string)
	for _, name := range metadataLists {
		if list := stringsOf(in.Document[name]); len(list) > 0 {
			i.Supported[name] = list
		}
	}
	for _, name := range endpointNames {
		if address, ok := in.Document[name].(string); ok && address != "" {
			i.Endpoints[name] = address
		}
	}
	for _, key := range in.Keys {
		i.Keys = append(i.Keys, keyStatus(key))
	}
	i.judgeIssuer(in, given, confirmed)
	i.judgeKeys(in)
	if in.Metadata != nil {
		i.judgeLogin(in.Metadata, in.KeySet)
		i.judgeLogout(in.Metadata)
		i.judgeBearer(in.Metadata)
	}
	if ahead := in.ClockAhead; ahead.Abs() > maxClockDifference {
		found := i.find(findingWarning, "clock", "the clock of the provider and the one of this machine differ")
		found.Got, found.Hint = fmt.Sprintf("the provider's is %s", clockDifference(ahead)), "set the clocks by NTP; up to clock_skew is forgiven"
	}
	i.Usable = !slices.ContainsFunc(i.Findings, func(f finding) bool { return f.Level == findingProblem })
	return i
}

// maxClockDifference is what a Date header may be off without a word.
const maxClockDifference = 10 * time.Second

func clockDifference(ahead time.Duration) string {
	if ahead < 0 {
		return ahead.Abs().String() + " behind"
	}
	return ahead.String() + " ahead"
}

// endpointNames are those of the metadata that the handler may use.
var endpointNames = []string{
	"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint",
	"end_session_endpoint",
}

// plainURL is what an issuer may be made of to be written into a Caddyfile as it is.
var plainURL = regexp.MustCompile(`^https?://[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]+$`)

func (i *inspected) judgeIssuer(in *provider.Inspection, given string, confirmed bool) {
	switch template := strings.Contains(i.Issuer, provider.TenantPlaceholder); {
	case in.MetadataError != nil:
		found := i.find(findingProblem, "metadata", "the metadata cannot be used")
		found.Got = in.MetadataError.Error()
	case template:
		found := i.find(findingNote, "issuer", "one document for all tenants: "+i.Issuer)
		found.Hint = "list those who may come in with tenants; without it, anybody with an account at the provider could"
	case !plainURL.MatchString(i.Issuer) || provider.CheckURL(i.Issuer) != nil:
		i.find(findingProblem, "issuer", "the stated issuer is no URL that could be configured").Got = i.Issuer
	case given != "" && given != i.Issuer:
		found := i.find(findingProblem, "issuer", "the provider calls itself by another name, and tokens are compared to the letter")
		found.Expected, found.Got = given, i.Issuer
		found.Hint = "write the issuer as the provider has it, as below"
		if strings.TrimSuffix(given, "/") == strings.TrimSuffix(i.Issuer, "/") {
			found.Hint += "; the difference is the slash at the end"
		}
	case given == "" && !confirmed:
		found := i.find(findingNote, "issuer", "the metadata of "+i.Issuer+" stands in another place than where an issuer has it")
		found.Hint = "so discovery has to be set, as below"
	default:
		i.find(findingOK, "issuer", i.Issuer)
	}
	if provider.PlainHTTP(in.Address) {
		i.find(findingWarning, "issuer", "plain http: whoever is on the way to it can make tokens")
	}
}

func (i *inspected) judgeKeys(in *provider.Inspection) {
	switch {
	case in.KeysError != nil:
		found := i.find(findingProblem, "keys", "the provider's keys cannot be used")
		found.Got = in.KeysError.Error()
		found.Hint = "no signature can be verified without them"
	case len(in.Keys) == 0:
		found := i.find(findingProblem, "keys", "there are no keys")
		found.Expected, found.Got = "jwks_uri in the metadata", "none"
	default:
		i.find(findingOK, "keys", fmt.Sprintf("%d for signatures: %s", len(in.Keys), i.keyNames()))
	}
	for _, skipped := range in.Skipped {
		i.find(findingNote, "keys", fmt.Sprintf("key %d of the set is left aside: %v", skipped.Index+1, skipped.Reason))
	}
}

// keyNames names the kinds of the keys, each once.
func (i *inspected) keyNames() string {
	names := make([]string, len(i.Keys))
	for k, key := range i.Keys {
		names[k] = strings.Join(strings.Fields(key.Type+" "+key.Curve+" "+key.Algorithm), " ")
	}
	return strings.Join(sortedOnce(names), ", ")
}

func (i *inspected) judgeLogin(metadata *provider.Metadata, keys *jose.KeySet) {
	if metadata.Authorization == "" || metadata.Token == "" {
		found := i.find(findingNote, "login", "this provider does not log users in: it has no authorization_endpoint and token_endpoint")
		found.Hint = "its tokens can be accepted with bearer_only; to log users in, put a provider such as Dex or Keycloak before it"
		return
	}
	i.Logins = true
	i.find(findingOK, "login", "authorization_endpoint and token_endpoint are there")
	if types := i.Supported["response_types_supported"]; len(types) > 0 && !slices.Contains(types, "code") {
		found := i.find(findingProblem, "login", "the authorization code flow is not offered")
		found.Expected, found.Got = "code in response_types_supported", strings.Join(types, ", ")
	}
	if modes := metadata.ResponseModes; len(modes) > 0 && !slices.Contains(modes, responseModeQuery) {
		found := i.find(findingProblem, "login", "the provider answers in no way that is supported")
		found.Expected, found.Got = "query or form_post in response_modes_supported", strings.Join(modes, ", ")
		if slices.Contains(modes, responseModeFormPost) {
			found.Level, found.Text, found.Hint = findingOK, "the provider answers by form_post", "that has to be set, as below"
		}
	}
	if metadata.RequiresPAR {
		i.find(findingProblem, "login", "the provider demands pushed authorization requests (RFC 9126), which are not supported").
			Hint = "look for a setting of the client that does without"
	}
	if i.document["require_signed_request_object"] == true {
		i.find(findingProblem, "login", "the provider demands signed request objects (RFC 9101), which are not supported").
			Hint = "look for a setting of the client that does without"
	}
	algorithms := (&idTokenPolicy{}).acceptedAlgorithms(metadata)
	fits := func(algorithm string) bool {
		candidates, _ := keys.Candidates("", algorithm)
		return len(candidates) > 0
	}
	switch {
	case len(algorithms) == 0:
		found := i.find(findingProblem, "ID token", "the signature algorithms of ID tokens are not accepted")
		found.Expected = "one of " + strings.Join(jose.AsymmetricAlgorithms(), " ")
		found.Got = strings.Join(metadata.IDTokenSigningAlgs, " ")
		found.Hint = "have the provider sign by a key pair; where the client_secret is the key, id_token_signed_response_alg HS256 will do"
	case keys != nil && !slices.ContainsFunc(algorithms, fits):
		found := i.find(findingProblem, "ID token", "no key of the provider fits the algorithm of its ID tokens")
		found.Expected, found.Got = "a key for "+strings.Join(algorithms, ", "), i.keyNames()
		found.Hint = "id_token_signed_response_alg names another algorithm than the one that is pinned"
	default:
		i.find(findingOK, "ID token", "signed by "+strings.Join(algorithms, ", ")+"; any other algorithm is refused")
	}
	if client := i.clientAuthentication(); client == nil {
		found := i.find(findingProblem, "client", "there is no way for the client to authenticate that both sides know")
		found.Expected, found.Got = strings.Join(clientAuthentications, " "), strings.Join(metadata.TokenAuthMethods, " ")
	} else {
		found := i.find(findingOK, "client", "authenticates by "+client.method)
		if len(client.lines) > 0 {
			found.Hint = "that has to be set, as below"
		}
	}
	switch methods := i.Supported["code_challenge_methods_supported"]; {
	case slices.Contains(methods, "S256"):
		i.find(findingOK, "PKCE", "S256")
	case len(methods) > 0:
		i.find(findingWarning, "PKCE", "S256 is not offered").Hint = "if logins fail because of it, set use_pkce off"
	default:
		i.find(findingNote, "PKCE", "the metadata says nothing of it; it is sent, and most providers that do not know it ignore it")
	}
	if scopes := i.Supported["scopes_supported"]; len(scopes) > 0 && !slices.Contains(scopes, scopeOpenID) {
		i.find(findingWarning, "scope", "openid is not among scopes_supported").Hint = "is this provider one of OAuth 2.0 alone? Logins need an ID token"
	}
	i.judgeRefresh()
	if metadata.IssParameterSupported {
		i.find(findingOK, "mix-up", "iss comes with each authorization response (RFC 9207) and is demanded")
	}
	if metadata.Userinfo == "" {
		i.find(findingNote, "userinfo", "there is no userinfo_endpoint: claims come by the ID token alone")
	}
}

func (i *inspected) judgeRefresh() {
	grants := i.Supported["grant_types_supported"]
	switch {
	case i.isKeycloak():
		i.find(findingOK, "refresh", "refresh tokens come by themselves").
			Hint = "leave the scope " + scopeOfflineAccess + " out: in Keycloak it makes sessions that a logout does not end"
	case slices.Contains(i.Supported["scopes_supported"], scopeOfflineAccess):
		i.find(findingOK, "refresh", "refresh tokens come for the scope "+scopeOfflineAccess)
	case slices.Contains(grants, "refresh_token"):
		i.find(findingOK, "refresh", "refresh tokens are offered")
	case len(grants) > 0:
		i.find(findingNote, "refresh", "refresh_token is not among grant_types_supported").
			Hint = "a session then lasts until absolute_timeout, with the claims of its login"
	default:
		i.find(findingNote, "refresh", "the metadata says nothing of refresh tokens; many providers give them by a setting of the client")
	}
}

func (i *inspected) judgeLogout(metadata *provider.Metadata) {
	if !i.Logins {
		return
	}
	if metadata.EndSession == "" {
		i.find(findingNote, "logout", "there is no end_session_endpoint: a logout ends the session here, and the one at the provider goes on")
	} else {
		i.find(findingOK, "logout", "a logout ends the session at the provider too")
	}
	switch {
	case i.document["backchannel_logout_supported"] == true:
		i.find(findingOK, "logout", "a logout at the provider ends the sessions here, if it knows the back-channel logout URL")
	case i.document["frontchannel_logout_supported"] == true:
		i.find(findingNote, "logout", "a logout at the provider can end the session here by a frame in the browser").
			Hint = "frontchannel_logout on; browsers that block third-party cookies limit what it can do"
	default:
		i.find(findingNote, "logout", "the provider does not tell of logouts: sessions here go on until they expire or a refresh is refused")
	}
}

func (i *inspected) judgeBearer(metadata *provider.Metadata) {
	if metadata.Introspection == "" {
		i.find(findingNote, "bearer", "there is no introspection_endpoint: access tokens have to be JWTs, opaque ones are refused")
	} else {
		i.find(findingOK, "bearer", "JWTs by their signature, opaque tokens by introspection where the client has credentials")
	}
}
