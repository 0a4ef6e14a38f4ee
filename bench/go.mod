// The side-by-side comparison needs nothing beyond the standard library; it is a module of its own so that
// the peers it may be measured against never enter the dependency graph of the handler.
module github.com/caddy-openid-connect/caddy-openid-connect/bench

go 1.26.0
