package openidconnect

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// wellKnownResource is where clients look for a resource's metadata (RFC 9728 section 3).
const wellKnownResource = "/.well-known/oauth-protected-resource"

// protectedResource is the metadata of this site as a resource, made ready.
type protectedResource struct {
	*ProtectedResource
	origin  string // of the configured resource; empty: the request's
	path    string // of the resource, without a final slash
	paths   []string
	methods []string
}

// location splits the configured resource into origin and path, each empty where the request decides.
func (p *ProtectedResource) location() (origin, path string) {
	u, err := url.Parse(p.Resource)
	if err != nil {
		return "", ""
	}
	if u.Host != "" {
		origin = u.Scheme + "://" + u.Host
	}
	return origin, strings.TrimSuffix(u.EscapedPath(), "/")
}

// metadataPaths are the paths that the metadata is published at. The one of a resource with a final slash ends in it too (RFC 9728 section
// 3.1); clients that leave it out find the same.
func (p *ProtectedResource) metadataPaths() []string {
	paths := []string{wellKnownResource}
	if _, path := p.location(); path != "" {
		paths = append(paths, wellKnownResource+path)
		if strings.HasSuffix(p.Resource, "/") {
			paths = append(paths, wellKnownResource+path+"/")
		}
	}
	return paths
}

func (h *Handler) compileResource() *protectedResource {
	if h.ProtectedResource == nil {
		return nil
	}
	resource := &protectedResource{ProtectedResource: h.ProtectedResource, paths: h.ProtectedResource.metadataPaths()}
	resource.origin, resource.path = h.ProtectedResource.location()
	resource.methods = []string{"header"}
	if slices.ContainsFunc(h.BearerTokenFrom, func(s TokenSource) bool { return s.In == inQuery }) {
		resource.methods = append(resource.methods, "query")
	}
	return resource
}

// owns reports whether the request is for the metadata: by the path as the client sent it, exact and undecoded.
func (p *protectedResource) owns(r *http.Request) bool {
	return slices.Contains(p.paths, originalURL(r).EscapedPath())
}

// originFor is the origin of the resource, "" when neither the configuration nor the request has one.
func (p *protectedResource) originFor(r *http.Request) string {
	if p.origin != "" {
		return p.origin
	}
	return publicOrigin(r)
}

// metadataURL is what challenges name as resource_metadata (RFC 9728 section 5.1).
func (p *protectedResource) metadataURL(r *http.Request) string {
	origin := p.originFor(r)
	if origin == "" {
		return ""
	}
	return origin + wellKnownResource + p.path
}

// issuers are the issuers whose tokens the policy accepts in the first place: one, or one for each tenant.
func (p *tokenPolicy) issuers(metadata *provider.Metadata) []string {
	if metadata == nil {
		return []string{p.issuer}
	}
	if !strings.Contains(metadata.Issuer, provider.TenantPlaceholder) {
		return []string{metadata.Issuer}
	}
	var issuers []string
	for _, tenant := range p.tenants {
		issuers = append(issuers, strings.ReplaceAll(metadata.Issuer, provider.TenantPlaceholder, tenant))
	}
	return issuers
}

// serveResourceMetadata publishes the metadata to anybody, scripts of other sites included: it holds nothing that is not public.
func (rt *runtime) serveResourceMetadata(w http.ResponseWriter, r *http.Request, st *requestState) error {
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", "*")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		header.Set("Access-Control-Allow-Methods", "GET, HEAD")
		header.Set("Access-Control-Allow-Headers", "*")
		w.WriteHeader(http.StatusNoContent)
		return nil
	default:
		header.Set("Allow", "GET, HEAD, OPTIONS")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	metadata, refused := rt.metadataForIssuer(r.Context())
	if refused != nil {
		return rt.refuse(w, r, st, "", refused)
	}
	origin := rt.resource.originFor(r)
	if origin == "" {
		w.WriteHeader(http.StatusBadRequest)
		return nil
	}
	identifier := rt.resource.Resource // as written, a final slash included
	if rt.resource.origin == "" {
		identifier = origin + identifier
	}
	body, err := json.Marshal(struct {
		Resource             string   `json:"resource"`
		AuthorizationServers []string `json:"authorization_servers"`
		BearerMethods        []string `json:"bearer_methods_supported"`
		Scopes               []string `json:"scopes_supported,omitempty"`
		Name                 string   `json:"resource_name,omitempty"`
		Documentation        string   `json:"resource_documentation,omitempty"`
		Policy               string   `json:"resource_policy_uri,omitempty"`
		Terms                string   `json:"resource_tos_uri,omitempty"`
	}{
		identifier, rt.policy.issuers(metadata), rt.resource.methods, rt.resource.ScopesSupported, rt.resource.ResourceName,
		rt.resource.ResourceDocumentation, rt.resource.ResourcePolicyURI, rt.resource.ResourceTosURI,
	})
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "public, max-age=3600")
	if rt.resource.origin == "" {
		header.Set("Cache-Control", "no-store") // the answer depends on how we were reached
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		w.Write(body) //nolint:errcheck // the client has gone; there is nobody to tell
	}
	return nil
}
