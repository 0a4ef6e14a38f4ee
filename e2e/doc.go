// Package e2e tests Caddy with the openid_connect handler against providers that people run: zitadel/oidc in this process,
// oidc-provider on Node.js, and Keycloak; TestMatrix has ORY Hydra and Glewlwyd too, and compares what comes of it with the page
// docs/provider-matrix.md. Every token in it was issued by one of them, and people log in with Chromium.
//
// Most tests with bearer tokens share the one Caddy of this process, and most of those that log in one address of the site, so they
// run one after another, although the latter have a Caddy of their own, in a process that can be restarted. Those that wait for
// tokens and keys to become old run at the same time, after all others, and share nothing but the browser and Keycloak.
//
// They need npm, Chromium, Java, Maven, a C compiler, and Debian's package glewlwyd. What npm installs stays in
// oidc-provider/node_modules, and Keycloak and Hydra in the user's cache directory. If the environment variable E2E_SCREENSHOTS names a
// folder, it gets a picture of every page of the handler.
package e2e
