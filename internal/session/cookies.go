package session

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

const (
	// chunkSize is how much of a value one cookie holds, and cookieSize what browsers take for a whole one.
	chunkSize  = 3900
	cookieSize = 4096

	// maxChunks bounds the indices that are looked at.
	maxChunks = 100

	defaultMaxBytes     = 12000
	transactionLifetime = 15 * time.Minute
	loopLifetime        = time.Minute

	hostPrefix   = "__Host-"
	securePrefix = "__Secure-"

	// defaultMark begins the names that are made of issuer and client, with so many hexadecimal digits after it.
	defaultMark   = "oidc-"
	defaultDigits = 6

	transactionInfix = "-t-"
	transactionHash  = 10
	loopSuffix       = "-loop"
)

// CookieConfig says which names and attributes the cookies have.
type CookieConfig struct {
	// Name is the session cookie's name. If it is empty, it is DefaultName with the prefix that fits the scheme.
	Name, DefaultName string

	// Domain is empty for a cookie of one host. Path is / by default.
	Domain, Path string

	// SameSite is lax, strict or none; lax by default. Secure is auto, on or off; auto by default.
	SameSite, Secure string

	HTTPOnly, Partitioned, Persistent bool

	// MaxBytes is what all cookies of a session may take together in a request. Default: 12000.
	MaxBytes int

	// CrossSitePost says that the provider answers by a POST from its own site.
	CrossSitePost bool
}

// Cookies names, reads and writes the cookies of one configuration. It never changes.
type Cookies struct {
	config      CookieConfig
	base        string // what all names contain
	plain       names  // on http
	secure      names  // on https
	session     string // attributes, those that depend on the scheme left out
	transaction string
}

// names are the cookie names for one scheme.
type names struct{ session, transaction, loop string }

// DefaultName is the session cookie's name for an issuer and a client.
func DefaultName(issuer, clientID string) string {
	sum := sha256.Sum256([]byte(issuer + "\x00" + clientID))
	return defaultMark + hex.EncodeToString(sum[:])[:defaultDigits]
}

// NewStripper returns cookies of which none is ever ours: their Take takes those of other handlers out of requests.
func NewStripper() *Cookies { return NewCookies(CookieConfig{DefaultName: defaultMark}) }

// NewCookies returns the cookies of a configuration.
func NewCookies(config CookieConfig) *Cookies {
	config.Domain = strings.TrimPrefix(config.Domain, ".")
	if config.Path == "" {
		config.Path = "/"
	}
	if config.MaxBytes <= 0 {
		config.MaxBytes = defaultMaxBytes
	}
	base := config.Name
	if base == "" {
		base = config.DefaultName
	}
	base = strings.TrimPrefix(strings.TrimPrefix(base, hostPrefix), securePrefix)
	c := &Cookies{config: config, base: base}

	prefix := hostPrefix
	if config.Domain != "" {
		prefix = securePrefix
	}
	c.plain = names{base, base + transactionInfix, base + loopSuffix}
	c.secure = names{prefix + base, prefix + base + transactionInfix, prefix + base + loopSuffix}
	if config.Path != "/" {
		c.secure.session = securePrefix + base
	}
	if config.Name != "" {
		c.plain.session, c.secure.session = config.Name, config.Name
	}

	var domain string
	if config.Domain != "" {
		domain = "; Domain=" + config.Domain
	}
	c.session = "; Path=" + config.Path + domain + "; SameSite=" + sameSite(config.SameSite)
	if config.HTTPOnly {
		c.session += "; HttpOnly"
	}
	// strict would keep these from the provider's answer, which another site causes
	site := "Lax"
	if config.CrossSitePost || config.SameSite == "none" {
		site = "None"
	}
	c.transaction = "; Path=/" + domain + "; SameSite=" + site + "; HttpOnly"
	return c
}

func sameSite(configured string) string {
	switch configured {
	case "strict":
		return "Strict"
	case "none":
		return "None"
	default:
		return "Lax"
	}
}

// secured says whether cookies are for https only.
func (c *Cookies) secured(secure bool) bool {
	switch c.config.Secure {
	case "on":
		return true
	case "off":
		return false
	default:
		return secure
	}
}

func (c *Cookies) names(secure bool) *names {
	if c.secured(secure) {
		return &c.secure
	}
	return &c.plain
}

// Name returns the name of the session's cookie on https, or on http.
func (c *Cookies) Name(secure bool) string { return c.names(secure).session }

// TransactionName returns the name of the cookie for the login with that state.
func (c *Cookies) TransactionName(secure bool, state [32]byte) string {
	hash := sha256.Sum256(state[:])
	text := base32.StdEncoding.EncodeToString(hash[:])
	return c.names(secure).transaction + strings.ToLower(text[:transactionHash])
}

// Budget returns how many bytes the cookies of a session may take together in a request.
func (c *Cookies) Budget() int { return c.config.MaxBytes }

// Session returns the Set-Cookie values that make a browser keep a sealed session for the rest of its life, in as many pieces
// as it needs, and forget what else of a session it sent.
func (c *Cookies) Session(r *Received, secure bool, sealed string, rest time.Duration) []string {
	name, attributes := c.Name(secure), c.sessionAttributes(secure)
	lifetime := ""
	if c.config.Persistent {
		lifetime = maxAge(rest)
	}
	size := c.chunk(name)
	if len(sealed) <= size {
		return c.deleteStale([]string{name + "=" + sealed + lifetime + attributes}, r, secure, 0)
	}
	var cookies []string
	for sealed != "" {
		part := sealed[:min(size, len(sealed))]
		sealed = sealed[len(part):]
		cookies = append(cookies, name+"."+strconv.Itoa(len(cookies))+"="+part+lifetime+attributes)
	}
	return c.deleteStale(cookies, r, secure, len(cookies))
}

// DeleteSession returns the Set-Cookie values that make a browser forget whatever it sent of a session. What is too much for
// one answer is left to the next.
func (c *Cookies) DeleteSession(r *Received, secure bool) []string {
	cookies := c.deleteStale(nil, r, secure, 0)
	if r != nil && r.found.plain {
		cookies = append(cookies, c.Name(secure)+"=; Max-Age=0"+c.sessionAttributes(secure))
	}
	return cookies
}

// deleteStale appends the deletion of what came with the request and was not written anew: the plain cookie if chunks were,
// and the chunks from that number on.
func (c *Cookies) deleteStale(cookies []string, r *Received, secure bool, chunks int) []string {
	if r == nil {
		return cookies
	}
	name, deletion := c.Name(secure), "=; Max-Age=0"+c.sessionAttributes(secure)
	limit := len(cookies) + maxStaleNames
	if r.found.plain && chunks > 0 {
		cookies = append(cookies, name+deletion)
	}
	for index := chunks; index < maxChunks && len(cookies) < limit; index++ {
		if r.found.chunks[index/64]&(1<<(index%64)) != 0 {
			cookies = append(cookies, name+"."+strconv.Itoa(index)+deletion)
		}
	}
	for _, suffix := range r.found.strays {
		if len(cookies) < limit {
			cookies = append(cookies, name+suffix+deletion)
		}
	}
	return cookies
}

// Transaction returns the Set-Cookie value that makes a browser keep a sealed transaction.
func (c *Cookies) Transaction(secure bool, state [32]byte, sealed string) string {
	return c.TransactionName(secure, state) + "=" + sealed + maxAge(transactionLifetime) + c.transactionAttributes(secure)
}

// DeleteTransaction returns the Set-Cookie value that makes a browser forget the transaction of that name.
func (c *Cookies) DeleteTransaction(secure bool, name string) string {
	return name + "=; Max-Age=0" + c.transactionAttributes(secure)
}

// Loop returns the Set-Cookie value of the loop breaker. What cannot be in a cookie is left out of the value.
func (c *Cookies) Loop(secure bool, value string) string {
	value = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`",;\`, r) {
			return -1
		}
		return r
	}, value)
	return c.names(secure).loop + "=" + value + maxAge(loopLifetime) + c.transactionAttributes(secure)
}

// DeleteLoop returns the Set-Cookie value that makes a browser forget what the loop breaker counted.
func (c *Cookies) DeleteLoop(secure bool) string {
	return c.names(secure).loop + "=; Max-Age=0" + c.transactionAttributes(secure)
}

func (c *Cookies) sessionAttributes(secure bool) string {
	return c.session + c.schemeAttributes(c.secured(secure))
}

func (c *Cookies) transactionAttributes(secure bool) string {
	return c.transaction + c.schemeAttributes(c.secured(secure) || c.config.CrossSitePost)
}

func (c *Cookies) schemeAttributes(secured bool) string {
	var attributes string
	if secured {
		attributes = "; Secure"
	}
	if c.config.Partitioned {
		attributes += "; Partitioned"
	}
	return attributes
}

func maxAge(d time.Duration) string {
	return "; Max-Age=" + strconv.FormatInt(int64(max(d, 0)/time.Second), 10)
}

// chunk returns how much of a value a cookie holds: less than usual only for very long names and attributes.
func (c *Cookies) chunk(name string) int {
	const rest = len(".99=; Max-Age=34560000; Secure; Partitioned")
	return max(min(chunkSize, cookieSize-len(name)-len(c.session)-rest), 1024)
}

// pieces returns in how many cookies a sealed value of that length comes, and how many bytes they take in a request.
func (c *Cookies) pieces(name string, length int) (count, bytes int) {
	size := c.chunk(name)
	if length <= size {
		return 1, len(name) + len("=") + length
	}
	count = (length + size - 1) / size
	return count, count*(len(name)+len(".0=; ")) - len("; ") + max(count-10, 0) + length
}

// chunkIndex reads the index of a chunk: decimal, small, without leading zeros.
func chunkIndex(text string) (int, bool) {
	if text == "" || len(text) > 2 || len(text) == 2 && text[0] == '0' {
		return 0, false
	}
	index := 0
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		index = 10*index + int(text[i]-'0')
	}
	return index, true
}
