// Command caddy is Caddy with the openid_connect handler and its session store on Redis, for the tests that run it in processes of its
// own.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-openid-connect/caddy-openid-connect"
	_ "github.com/caddy-openid-connect/caddy-openid-connect/redis"
)

func main() { caddycmd.Main() }
