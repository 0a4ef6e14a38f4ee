// Package cluster runs what a site with many users runs, as processes of its own on 127.0.0.1: one or more Caddys with the
// openid_connect handler, a Redis that they may share, a round-robin front that makes them one origin, an upstream that knows whether
// the access tokens it gets are alive, and people who use the site. Each process can be paused, killed and started again.
//
// The provider is optest, in this process. The tests need redis-server and no other service. The environment variable E2E_STORM is how
// long the storms last (20s), and E2E_OUTAGE how long the provider is away (10s).
package cluster
