// Command caddy is Caddy with the openid_connect handler built in, for development:
//
//	go run ./cmd/caddy run --config example.Caddyfile
//
// Release builds are made with xcaddy.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-openid-connect/caddy-openid-connect"
)

func main() { caddycmd.Main() }
