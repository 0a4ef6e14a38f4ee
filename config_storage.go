package openidconnect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Where sessions live without a guest module.
const (
	storageCookie = "cookie"
	storageCaddy  = "caddy"
)

// storageNamespace is that of the guest modules that keep sessions; storageKey names the module in its object.
const (
	storageNamespace = "http.openid_connect.session_stores"
	storageKey       = "module"
)

// redisModule is the guest module that comes with this one, as a Go module of its own.
const redisModule = "redis"

// SessionStorage says where sessions live: a name, or the text of a JSON object with the name as its module and the settings of that
// module beside it. In JSON it is the name or the object; an object with nothing but the name is the name.
type SessionStorage string

// UnmarshalJSON reads both forms.
func (s *SessionStorage) UnmarshalJSON(text []byte) error {
	var object map[string]json.RawMessage
	named := bytes.TrimSpace(text)
	if bytes.HasPrefix(named, []byte("{")) {
		if err := json.Unmarshal(named, &object); err != nil {
			return err
		}
		if named = object[storageKey]; named == nil {
			return errors.New(`an object needs "module", the name of the storage`)
		}
	}
	var name string
	if err := json.Unmarshal(named, &name); err != nil || name == "" || isInlineJSON(name) {
		return errors.New("expected the name of a storage")
	}
	delete(object, storageKey)
	if len(object) == 0 {
		*s = SessionStorage(name)
		return nil
	}
	if name == storageCookie || name == storageCaddy {
		return unknownMember("", sortedKeys(object)[0], []string{storageKey})
	}
	object[storageKey] = named
	written, err := json.Marshal(object) // in one order, so that equal storages are equal texts
	*s = SessionStorage(written)
	return err
}

// MarshalJSON writes the shorter form where it says all.
func (s SessionStorage) MarshalJSON() ([]byte, error) {
	if isInlineJSON(string(s)) {
		return []byte(s), nil
	}
	return json.Marshal(string(s))
}

// split returns the name of the storage and what belongs to its module. The check has refused whatever does not give both.
func (s SessionStorage) split() (name string, config json.RawMessage) {
	if !isInlineJSON(string(s)) {
		return or(string(s), storageCookie), nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(s), &object) != nil || json.Unmarshal(object[storageKey], &name) != nil {
		return "", nil
	}
	if delete(object, storageKey); len(object) == 0 {
		return name, nil
	}
	config, _ = json.Marshal(object) // parts of a text that was read cannot fail
	return name, config
}

// name is the name of the storage; without any it is the cookie.
func (s SessionStorage) name() string {
	name, _ := s.split()
	return name
}

// config is what the module of the storage is set up by, nil when nothing but its name is given.
func (s SessionStorage) config() json.RawMessage {
	_, config := s.split()
	return config
}

// moduleID is the identifier of the guest module, "" where there is none.
func (s SessionStorage) moduleID() string {
	switch name := s.name(); name {
	case storageCookie, storageCaddy:
		return ""
	default:
		return storageNamespace + "." + name
	}
}

// storages are the names of all storages that this build of Caddy has.
func storages() []string {
	modules := caddy.GetModules(storageNamespace)
	names := append(make([]string, 0, len(modules)+2), storageCookie, storageCaddy)
	for _, module := range modules {
		names = append(names, module.ID.Name())
	}
	return names
}

// checkStorageName tells which storages there are, and for ours that it has to be built in.
func checkStorageName(name string) error {
	valid := storages()
	switch {
	case slices.Contains(valid, name):
		return nil
	case name == redisModule:
		return fmt.Errorf("%q is not in this build of Caddy; build it with --with github.com/caddy-openid-connect/caddy-openid-connect/redis", name)
	default:
		return fmt.Errorf("%q is not one of %s%s", name, strings.Join(valid, ", "), didYouMean(name, append(valid, redisModule)))
	}
}

func (h *Handler) checkStorage(s SessionStorage) error {
	const field = "session.storage"
	if isInlineJSON(string(s)) {
		if err := new(SessionStorage).UnmarshalJSON([]byte(s)); err != nil { // it may have come out of a placeholder
			return fieldError(field, "%v", err)
		}
	} else if h.unresolved(string(s)) {
		return nil
	}
	if err := checkStorageName(s.name()); err != nil {
		return fieldError(field, "%v", err)
	}
	return nil
}
