package main

import (
	"fmt"
	"strings"
)

// authorization is the value of the header.
func (v *vandal) authorization() string {
	token := v.token()
	switch v.random.IntN(12) {
	case 0:
		return "bearer " + token
	case 1:
		return "Bearer  \t" + token + " "
	case 2:
		return "Bearer " + token + one(v, odd) + v.token()
	case 3:
		return token
	case 4:
		return one(v, []string{
			"Bearer", "Bearer ", "", "Basic Og==", "Negotiate x", "Digest username=\"a\"", "DPoP " + token, "Bearer\x00" + token,
		})
	default:
		return "Bearer " + token
	}
}

// token is a good one, one that never was, or what is left of one.
func (v *vandal) token() string {
	good := one(v, v.loot.tokens)
	switch v.random.IntN(10) {
	case 0:
		return good
	case 1, 2:
		return one(v, v.loot.useless)
	case 3: // the parts of two
		a, b := strings.Split(good, "."), strings.Split(one(v, v.loot.useless)+"..", ".")
		a[v.random.IntN(len(a))] = b[v.random.IntN(3)]
		return strings.Join(a, ".")
	case 4:
		return strings.Repeat(one(v, []string{"a", "a.", ".", "=", "\xff"}), 1+v.random.IntN(20_000))
	default:
		return v.mangle(good)
	}
}

// mangle changes a text a little, and never returns the same.
func (v *vandal) mangle(text string) string {
	if text == "" {
		return one(v, odd)
	}
	at := v.random.IntN(len(text))
	changed := text
	switch v.random.IntN(6) {
	case 0: // one bit
		bits := []byte(text)
		bits[at] ^= 1 << v.random.IntN(8)
		changed = string(bits)
	case 1: // a character of the same alphabet, often the last, some of whose bits are nothing
		if v.chance(2) {
			at = len(text) - 1
		}
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		changed = text[:at] + string(alphabet[v.random.IntN(len(alphabet))]) + text[at+1:]
	case 2:
		changed = text[:at]
	case 3:
		changed = text[:at] + one(v, odd) + text[at:]
	case 4:
		changed = text[:at] + text[at+1:]
	case 5:
		changed = text[at:] + text[:at]
	}
	if strings.Contains(changed, text) {
		return "x"
	}
	return changed
}

// cookies are those of a session, mostly not quite.
func (v *vandal) cookies(r *wireRequest) {
	var pairs []string
	session := one(v, v.loot.sessions)
	base := strings.TrimSuffix(session[0].Name, ".0")
	kind := v.random.IntN(14)
	for i, cookie := range session {
		name, value := cookie.Name, cookie.Value
		switch kind {
		case 0: // as it is
		case 1, 2, 3, 4:
			if i == len(session)-1 || v.chance(2) {
				value = v.mangle(value)
			}
		case 5:
			name = base + one(v, []string{".0", ".1", ".99", ".-1", ".00", ".1e9", ".0.0", "-t-", "-t-abcdef", "-loop", "."})
		case 6:
			name = strings.ToUpper(name)
		case 7:
			name = one(v, []string{"__Host-", "__Secure-", " ", "\t", "x"}) + name
		case 8:
			value = `"` + value + `"`
		case 9:
			value = one(v, []string{"", "=", "deleted", strings.Repeat("A", v.random.IntN(30_000)), "{env.HOME}", "\x00"})
		}
		pairs = append(pairs, name+"="+value)
	}
	switch kind {
	case 10: // hundreds
		for i := range 100 + v.random.IntN(500) {
			pairs = append(pairs, fmt.Sprintf("%s.%d=%s", base, i, "AAAA"))
		}
	case 11: // two sessions in one
		for _, cookie := range one(v, v.loot.sessions) {
			pairs = append(pairs, cookie.Name+"="+v.mangle(cookie.Value))
		}
	case 12: // transactions and marks of loops
		for i := range 20 {
			name := base + "-t-" + strings.Repeat("abcdefghijklmnopqrstuvwxyz"[i:i+1], 10)
			pairs = append(pairs, name+"="+v.mangle(session[0].Value))
		}
		pairs = append(pairs, base+"-loop="+v.mangle(session[0].Value))
	case 13:
		v.random.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
		pairs = pairs[:v.random.IntN(len(pairs)+1)]
	}
	r.add("Cookie", strings.Join(pairs, one(v, []string{"; ", "; ", "; ", ";", ",", "; ;", " "})))
}
