package openidconnect

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRefreshSettings(t *testing.T) {
	t.Parallel()
	h, err := parseLogin(`renew_access_token_on_expiry
		access_token_expires_leeway 1m
		access_token_expires_in 1h
		refresh_session_interval 15m
		refresh_grace 5m
		refresh_failure end
		refresh_coordination storage`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Handler{
		Issuer: "https://id.example.com", ClientID: "app",
		RenewAccessTokenOnExpiry: new(true), AccessTokenExpiresLeeway: new(Duration(time.Minute)), AccessTokenExpiresIn: new(Duration(time.Hour)),
		RefreshSessionInterval: new(Duration(15 * time.Minute)), RefreshGrace: new(Duration(5 * time.Minute)),
		RefreshFailure: refreshFailureEnd, RefreshCoordination: refreshCoordinationStorage,
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("got  %s\nwant %s", must(json.Marshal(h)), must(json.Marshal(want)))
	}
	read := new(Handler)
	object := `{"issuer":"https://id.example.com","client_id":"app","renew_access_token_on_expiry":true,"access_token_expires_leeway":60,` +
		`"access_token_expires_in":3600,"refresh_session_interval":900,"refresh_grace":"5m","refresh_failure":"end","refresh_coordination":"storage"}`
	if err := json.Unmarshal([]byte(object), read); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(read, want) {
		t.Errorf("as JSON\ngot  %s\nwant %s", must(json.Marshal(read)), must(json.Marshal(want)))
	}
}

func TestRefreshChecks(t *testing.T) {
	t.Parallel()
	const off = "renew_access_token_on_expiry off\n"
	for settings, want := range map[string]string{
		"renew_access_token_on_expiry":       "",
		off:                                  "",
		"renew_access_token_on_expiry maybe": `renew_access_token_on_expiry is on or off, not "maybe"`,
		"access_token_expires_leeway 0":      "",
		"access_token_expires_leeway 1h":     "",
		"access_token_expires_leeway 61m":    "access_token_expires_leeway: 1h1m0s is not between 0s and 1h0m0s",
		"access_token_expires_leeway -1s":    `access_token_expires_leeway: "-1s" is not a duration`,
		"access_token_expires_leeway":        "access_token_expires_leeway needs a duration",
		"access_token_expires_in 1s":         "",
		"access_token_expires_in 365d":       "",
		"access_token_expires_in 0":          "access_token_expires_in: 0s is not between 1s and 8760h0m0s",
		"access_token_expires_in 999ms":      "access_token_expires_in: 999ms is not between",
		"access_token_expires_in 366d":       "access_token_expires_in: 8784h0m0s is not between",
		"refresh_session_interval 0":         "",
		"refresh_session_interval 1s":        "",
		"refresh_session_interval 24h":       "",
		"refresh_session_interval 999ms":     "refresh_session_interval: 999ms is neither 0 nor between 1s and the absolute_timeout of 24h0m0s",
		"refresh_session_interval 25h":       "refresh_session_interval: 25h0m0s is neither",
		"refresh_session_interval 25h\n" + sessionBlock("absolute_timeout 7d"):      "",
		"refresh_session_interval 2h\n" + sessionBlock("absolute_timeout 1h"):       "refresh_session_interval: 2h0m0s is neither 0 nor between 1s and the absolute_timeout of 1h0m0s",
		"refresh_session_interval 15m\n" + off:                                      "refresh_session_interval: contradicts renew_access_token_on_expiry off",
		"refresh_session_interval 0\n" + off:                                        "",
		"refresh_session_interval 15m\nbearer_only\n" + off:                         "", // without effect
		"access_token_expires_leeway 1m\n" + off:                                    "",
		"refresh_grace 1m\nrefresh_failure end\nrefresh_coordination local\n" + off: "",
		"refresh_grace 1s":                          "",
		"refresh_grace 1h":                          "",
		"refresh_grace 0":                           "refresh_grace: 0s is not between 1s and 1h0m0s",
		"refresh_grace 2h":                          "refresh_grace: 2h0m0s is not between",
		"refresh_failure keep":                      "",
		"refresh_failure {env.FAILURE}":             "",
		"refresh_failure kept":                      `refresh_failure: "kept" is not one of keep, end; did you mean "keep"?`,
		"refresh_coordination auto":                 "",
		"refresh_coordination local":                "",
		"refresh_coordination redis":                `refresh_coordination: "redis" is not one of auto, local, storage`,
		"refresh_failure keep\nrefresh_failure end": "refresh_failure is set twice",
		"refresh_grace 1m 2m":                       `refresh_grace: unexpected argument "2m"`,
		"refresh_graces 1m":                         `unrecognized subdirective "refresh_graces"; did you mean "refresh_grace"?`,
		"bearer_only\nrefresh_grace 1m\nrefresh_failure end\nrefresh_coordination auto": "",
	} {
		checkSettings(t, settings, want)
	}
	for members, want := range map[string]string{
		`"refresh_failure":"keeps"`:               `refresh_failure: "keeps" is not one of keep, end; did you mean "keep"?`,
		`"refresh_coordination":"none"`:           `refresh_coordination: "none" is not one of auto, local, storage`,
		`"refresh_session_interval":-1`:           "refresh_session_interval: ",
		`"refresh_session_interval":"-1s"`:        "refresh_session_interval: -1s is neither",
		`"access_token_expires_leeway":"-1s"`:     "access_token_expires_leeway: -1s is not between",
		`"renew_access_token_on_expiry":"off"`:    "renew_access_token_on_expiry: expected true or false",
		`"renew_access_token_on_expiry":null`:     "renew_access_token_on_expiry: is null",
		`"refresh_failure":""`:                    "refresh_failure: is empty",
		`"access_token_expire_leeway":30`:         `unknown field "access_token_expire_leeway"; did you mean "access_token_expires_leeway"?`,
		`"refresh_grace":"2m"`:                    "",
		`"access_token_expires_leeway":0`:         "",
		`"renew_access_token_on_expiry":true`:     "",
		`"refresh_coordination":"{env.ANYTHING}"`: "",
	} {
		h := new(Handler)
		err := json.Unmarshal([]byte(`{"issuer":"https://id.example.com","client_id":"app",`+members+"}"), h)
		if err == nil {
			err = h.check()
		}
		if (want == "") != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", members, err, want)
		}
	}
}

// TestRefreshWarnings: an upstream that has the refresh token, and ourselves, can end the session by using it both.
func TestRefreshWarnings(t *testing.T) {
	t.Parallel()
	for settings, warned := range map[string]bool{
		"set_refresh_token_header":                                   true,
		"set_refresh_token_header\nrenew_access_token_on_expiry":     true,
		"set_refresh_token_header\nrenew_access_token_on_expiry off": false,
		"set_refresh_token_header off":                               false,
		"set_refresh_token_header\nbearer_only":                      false,
		"":                                                           false,
	} {
		h, err := parseLogin(settings)
		if err != nil {
			t.Errorf("%q: %v", settings, err)
			continue
		}
		warnings := h.warnings()
		if warned != (len(warnings) == 1) || warned && !strings.HasPrefix(warnings[0], "set_refresh_token_header beside renew_access_token_on_expiry") {
			t.Errorf("%q: got %q", settings, warnings)
		}
	}
}
