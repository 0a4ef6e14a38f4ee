# Caddy with openid_connect, built from this checkout:
#
#	docker build -t caddy-openid-connect .
#
# More modules come along with --build-arg WITH="--with github.com/caddy-dns/cloudflare", sessions in Redis with
# --build-arg WITH="--with github.com/caddy-openid-connect/caddy-openid-connect/redis@v0.0.0=./redis".
# Who has no checkout takes the file in docs/container.md.

ARG CADDY_VERSION=2.11.9

FROM caddy:${CADDY_VERSION}-builder AS builder
ARG CADDY_VERSION
ARG WITH=
WORKDIR /src
COPY . .
RUN xcaddy build "v${CADDY_VERSION}" --output /usr/bin/caddy \
	--with github.com/caddy-openid-connect/caddy-openid-connect@v0.0.0=. ${WITH}

FROM caddy:${CADDY_VERSION}
COPY --from=builder /usr/bin/caddy /usr/bin/caddy
RUN caddy list-modules | grep -qx http.handlers.openid_connect
