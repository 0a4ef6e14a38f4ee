package openidconnect

import (
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	// loopWindow is the time within which logins that lead nowhere count as a loop.
	loopWindow = time.Minute
	// loopLogins is how many of them end it.
	loopLogins = 3
	// blindRestart marks, in the loop breaker's cookie, a login that was started because nothing of a callback could be read.
	blindRestart = "r"
)

// loopEntry is one login, or blind restart, of the last minute.
type loopEntry struct {
	mark string
	at   int64 // Unix seconds
}

// parseLoop reads the loop breaker's cookie. It is plain text: it must be readable when nothing sealed is. Who forges it deceives only his own
// browser; the operator hears of loops of logins that were made here.
func parseLoop(text string, now time.Time) []loopEntry {
	var entries []loopEntry
	for part := range strings.SplitSeq(text, "-") {
		mark, seconds, ok := strings.Cut(part, ".")
		at, err := strconv.ParseInt(seconds, 10, 64)
		if !ok || err != nil || mark == "" || len(mark) > 8 {
			continue
		}
		if age := now.Unix() - at; age >= 0 && age < int64(loopWindow/time.Second) && len(entries) < 2*loopLogins {
			entries = append(entries, loopEntry{mark, at})
		}
	}
	return entries
}

func formatLoop(entries []loopEntry) string {
	parts := make([]string, len(entries))
	for i, entry := range entries {
		parts[i] = entry.mark + "." + strconv.FormatInt(entry.at, 10)
	}
	return strings.Join(parts, "-")
}

// markOf is how the loop breaker's cookie names a session: by a part of its identifier that opens nothing.
func markOf(id [16]byte) string { return hex.EncodeToString(id[:4]) }

// addToLoop returns the cookie that notes one more login or restart.
func (l *login) addToLoop(v *visit, mark string, now time.Time) string {
	entries := append(parseLoop(v.cookies.Loop, now), loopEntry{mark, now.Unix()})
	if len(entries) > 2*loopLogins {
		entries = entries[1:]
	}
	return l.cookies.Loop(v.secure, formatLoop(entries))
}

// blindRestarts counts the logins that were started because nothing of a callback could be read.
func (l *login) blindRestarts(v *visit, now time.Time) int {
	count := 0
	for _, entry := range parseLoop(v.cookies.Loop, now) {
		if entry.mark == blindRestart {
			count++
		}
	}
	return count
}

// detectLoop refuses one more login after three within a minute whose sessions never came back to us, and says why they did not.
func (rt *runtime) detectLoop(r *http.Request, v *visit) *refusal {
	l := rt.login
	count := 0
	entries := parseLoop(v.cookies.Loop, rt.now())
	marks := make([]string, 0, len(entries))
	for _, entry := range entries {
		marks = append(marks, entry.mark)
		switch {
		case entry.mark == blindRestart:
		case l.memory.hasComeBack(entry.mark):
			count = 0
		default:
			count++
		}
	}
	if count < loopLogins {
		return nil
	}
	if opened, _, _ := rt.sessionOf(r, v, rt.now()); opened != nil {
		return nil // somebody who is signed in wants another login
	}
	diagnosis := rt.diagnoseLoop(r, v)
	v.reply = append(v.reply, l.cookies.DeleteLoop(v.secure)) // the next try is the user's own, and free
	const expected = "a session cookie after the login"
	level := zapcore.DebugLevel
	if l.memory.takeMade(marks) {
		level = zapcore.WarnLevel
		rt.metrics.login(string(reasonLoginLoop))
	}
	rt.logger.Log(level, "login loop ended", zap.String("reason", string(reasonLoginLoop)), zap.String("expected", expected),
		zap.String("got", diagnosis), zap.String("hint", answers[reasonLoginLoop].hint), zap.String("issuer", rt.issuerName),
		zap.String("host", r.Host), zap.String("request_id", requestID(r)))
	return &refusal{reason: reasonLoginLoop, expected: expected, got: diagnosis, page: pageLoop, detail: diagnosis}
}

// diagnoseLoop says what became of the session cookie.
func (rt *runtime) diagnoseLoop(r *http.Request, v *visit) string {
	l := rt.login
	if !v.cookies.HasSession() {
		text := "The session cookie never came back. The browser may block it, or it was set for another host or path."
		if !v.secure {
			text += " This page came over http: a cookie that is marked Secure is not sent there."
		}
		return text
	}
	for _, sealed := range v.cookies.Session {
		if sess, _, _, err := session.OpenCookie(r.Context(), l.sealer, l.binding(v, l.cookies.Name(v.secure)), sealed); err == nil && sess != nil {
			if rt.headers.accessToken && sess.AccessToken == "" {
				return "The session cookie came back, but without the access token that this site passes on. Servers that share this site need the same " +
					"configuration."
			}
			return "The session cookie came back, but its session had expired on arrival. Compare the clocks of the servers that share this site."
		}
	}
	return "The session cookie came back but could not be opened. Servers that share this site need the same session secret."
}
