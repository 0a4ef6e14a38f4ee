package provider

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// Inspection is what a provider says of itself, as it came and as it is understood.
type Inspection struct {
	Address  string         // where the metadata came from
	Document map[string]any // the metadata
	Metadata *Metadata      // nil where MetadataError says why it cannot be used

	MetadataError error

	KeySet    *jose.KeySet
	Keys      []KeyStatus // those of the set
	Skipped   []jose.SkippedKey
	KeysError error // why there are no keys; nil where the metadata names none

	// ClockAhead is how far the provider's clock is ahead of ours, to the second; zero if it does not tell.
	ClockAhead time.Duration
}

// Inspect fetches the metadata and the keys of a provider once, from where a provider of this configuration would, whatever there is to be said
// against them; what issuer is stated is for the caller to judge. The error is one of the connection, or of a document that is none. Endpoints
// are judged, but for the key set never called.
func Inspect(ctx context.Context, config Config) (*Inspection, error) {
	p := New(config)
	defer p.Close()
	address, header, body, err := p.fetchDocument(ctx)
	if err != nil {
		return nil, err
	}
	document, err := jose.ParseObject(string(body))
	if err != nil {
		return nil, errNoDocument
	}
	inspection := &Inspection{Address: address, Document: document}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		inspection.ClockAhead = date.Sub(p.now()).Round(time.Second)
	}
	p.config.Issuer = "" // any that is stated will do
	inspection.Metadata, inspection.MetadataError = p.parseMetadata(body, address)
	keysAt, _ := document["jwks_uri"].(string)
	if inspection.Metadata != nil {
		keysAt = inspection.Metadata.JWKSURI
	}
	if keysAt == "" || checkDiscovered(keysAt, address) != nil {
		return inspection, nil
	}
	_, body, err = p.get(ctx, "jwks", keysAt)
	if err != nil {
		inspection.KeysError = err
		return inspection, nil
	}
	keys, skipped, err := jose.ParseKeySet(body)
	inspection.Skipped, inspection.KeysError = skipped, err
	if err == nil {
		inspection.KeySet, inspection.Keys = keys, describeKeys(keys)
	}
	return inspection, nil
}
