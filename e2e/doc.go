// Package e2e tests Caddy with the openid_connect handler against providers that people run: the op package of
// zitadel/oidc, in this process, and oidc-provider, on Node.js. Every token in it was issued by one of them.
//
// There is one Caddy per process, so these tests run one after another. They need npm; what it installs stays in
// oidc-provider/node_modules.
package e2e
