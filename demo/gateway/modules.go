package gateway

import (
	// Only the modules that the configurations here need: Caddy's whole standard set takes longer to build.
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"

	_ "github.com/caddy-openid-connect/caddy-openid-connect"
)
