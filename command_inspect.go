package openidconnect

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

type inspectOptions struct {
	site, upstream string
	authorities    string
	timeout        time.Duration
	asJSON         bool
}

func inspectCommand() *cobra.Command {
	var options inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [--site <host>] [--upstream <address>] [--ca <file>] [--timeout <duration>] [--json] <issuer or discovery URL>",
		Short: "Says whether a provider can be used, and what to write for it",
		Long: `
Fetches the metadata and the keys of a provider and checks them as the handler would: the
issuer to the letter, the endpoints, the keys, the algorithms, the ways to
authenticate. Then it shows what to register with the provider and what to write into the
Caddyfile.

Nothing is sent that is not public; no login is tried.

The exit code is 2 if something is in the way of using the provider, or of using it under the
name that was given.`,
		Example: `  caddy openid-connect inspect https://id.example.com/realms/main
  caddy openid-connect inspect --site app.example.com https://login.example.com/.well-known/openid-configuration
  caddy openid-connect inspect --json https://id.example.com | jq .endpoints`,
		Args: exactlyOneArgument("the issuer, or the URL of its metadata,"),
		RunE: func(cmd *cobra.Command, args []string) error { return options.run(cmd, args[0]) },
	}
	cmd.Flags().StringVar(&options.site, "site", "app.example.com", "Host of the site, for the Caddyfile")
	cmd.Flags().StringVar(&options.upstream, "upstream", "localhost:3000", "Address of the upstream, for the Caddyfile")
	cmd.Flags().StringVar(&options.authorities, "ca", "", "PEM file with the authorities to trust in place of the system's")
	cmd.Flags().DurationVar(&options.timeout, "timeout", 10*time.Second, "Limit for each call")
	cmd.Flags().BoolVar(&options.asJSON, "json", false, "Print JSON")
	return cmd
}

// hostAddress is a host that stands before the brace of a site, or behind reverse_proxy.
var hostAddress = regexp.MustCompile(`^(https?://)?([A-Za-z0-9._-]*[A-Za-z0-9]|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?$`)

func (o *inspectOptions) run(cmd *cobra.Command, address string) error {
	switch {
	case o.timeout <= 0:
		return errors.New("--timeout must be positive")
	case !hostAddress.MatchString(o.site):
		return fmt.Errorf("--site %q is not a host, with http:// or https:// before it and a port after it at most", o.site)
	case !hostAddress.MatchString(o.upstream):
		return fmt.Errorf("--upstream %q is not a host and a port", o.upstream)
	}
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	if err := provider.CheckURL(address); err != nil {
		return err
	}
	config := provider.Config{Timeout: o.timeout, TenantTemplate: true, UserAgent: userAgent}
	if o.authorities != "" {
		text, err := os.ReadFile(o.authorities)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("%s holds no certificate in PEM", o.authorities)
		}
	}
	found, err := inspectAt(cmd.Context(), config, address)
	if err != nil {
		return errors.New(onTerminal(err.Error()) + fetchHint(err)) // it may quote a certificate
	}
	found.register(o.site)
	found.writeCaddyfile(o.site, o.upstream)
	if o.asJSON {
		err = printJSON(cmd, found)
	} else {
		found.print(cmd)
	}
	if err == nil && !found.Usable {
		return endWithNo(cmd)
	}
	return err
}

// wellKnown marks the URL of a metadata document.
const wellKnown = "/.well-known/"

// inspectAt fetches what is at an issuer or a discovery URL, and looks whether the issuer that is stated there leads to it as well.
func inspectAt(ctx context.Context, config provider.Config, address string) (*inspected, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	given := ""
	if strings.Contains(address, wellKnown) {
		config.Discovery = address
	} else {
		given, config.Issuer = address, address
	}
	in, err := provider.Inspect(ctx, config)
	if err != nil {
		return nil, err
	}
	stated, _ := in.Document["issuer"].(string)
	confirmed := stated == given
	if !confirmed && plainURL.MatchString(stated) && provider.CheckURL(stated) == nil {
		config.Discovery, config.Issuer = "", stated
		if there, err := provider.Inspect(ctx, config); err == nil && there.Document["issuer"] == stated {
			in, confirmed = there, true
		}
	}
	return inspect(in, given, confirmed), nil
}

// fetchHint says what to look at when the metadata cannot be fetched.
func fetchHint(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "x509:"), strings.Contains(text, "certificate"):
		return "; a private authority is trusted by --ca here, and by tls_trust_pool in the Caddyfile"
	case strings.Contains(text, "status 404"):
		return "; is a realm or tenant missing from the issuer?"
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return "; does the provider speak http there?"
	case strings.Contains(text, "status 400"):
		return "; is it https there, and the address http?"
	default:
		return ""
	}
}

// print shows the findings to a person.
func (i *inspected) print(cmd *cobra.Command) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "issuer    %s\nmetadata  %s\n\n", onTerminal(i.Issuer), onTerminal(i.Discovery))
	for _, f := range i.Findings {
		fmt.Fprintf(out, "%-8s  %-9s %s\n", f.Level, f.About, onTerminal(f.Text))
		for _, detail := range []struct{ name, text string }{{"expected", f.Expected}, {"got", f.Got}, {"hint", f.Hint}} {
			if detail.text != "" {
				fmt.Fprintf(out, "%-20s%s: %s\n", "", detail.name, onTerminal(detail.text))
			}
		}
	}
	if len(i.Endpoints) > 0 {
		fmt.Fprint(out, "\nEndpoints:\n")
		for _, name := range slices.Sorted(maps.Keys(i.Endpoints)) {
			fmt.Fprintf(out, "  %-24s %s\n", name, onTerminal(i.Endpoints[name]))
		}
	}
	if len(i.Register) > 0 {
		fmt.Fprint(out, "\nRegister with the provider:\n")
		for _, r := range i.Register {
			fmt.Fprintf(out, "  %-24s %s\n", r.What, r.Address)
		}
	}
	if i.Caddyfile != "" {
		fmt.Fprintf(out, "\nWrite into the Caddyfile:\n\n%s", i.Caddyfile)
	}
}
