package openidconnect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// askWithoutOffline is [askOnline] in the words of the command.
const askWithoutOffline = "run it without --offline"

type explainOptions struct {
	config, adapter string
	site, path      string
	offline, asJSON bool
}

func explainCommand() *cobra.Command {
	var options explainOptions
	cmd := &cobra.Command{
		Use:   "explain --config <file> [--adapter caddyfile] [--site <host>] [--path <path>] [--offline] [--json] <token|->",
		Short: "Says why a bearer token is accepted or refused",
		Long: `
Judges a bearer token as the handlers of a configuration would, check by check, and shows the
first that fails, with what was expected and what came. The configuration is read
but not run: no port is opened. The provider is asked for its metadata and keys, or to
introspect the token, unless --offline forbids it.

"-" reads the token from the standard input, which keeps it out of the shell's history and the
list of processes. Where the configuration has several sites with different
handlers, --site and --path say which one is meant.

A Caddy that runs answers the same question by its admin API, with the keys that it has:
POST /openid_connect/explain.

The exit code is 0 if the token is accepted, 2 if it is refused or not judged at all, and 1 if that
could not be found out, as when the provider does not answer.`,
		Example: `  caddy openid-connect explain --config Caddyfile - < token.txt
  caddy openid-connect explain --config Caddyfile --site api.example.com --path /v1/orders eyJhbGciOi...
  caddy openid-connect explain --config caddy.json --offline --json - < token.txt`,
		Args: exactlyOneArgument("the token, or - to read it from the standard input,"),
		RunE: func(cmd *cobra.Command, args []string) error { return options.run(cmd, args[0]) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if strings.HasPrefix(err.Error(), "unknown shorthand flag") {
			return errors.New("there is no such flag; -- goes before a token that begins with a hyphen") // which is not printed
		}
		return err
	})
	cmd.Flags().StringVarP(&options.config, "config", "c", "", "Configuration file (required)")
	cmd.Flags().StringVarP(&options.adapter, "adapter", "a", "", "Name of the config adapter (default: by the name of the file)")
	cmd.Flags().StringVar(&options.site, "site", "", "Host of the site, with the port if it is not usual")
	cmd.Flags().StringVar(&options.path, "path", "", "Path of the request")
	cmd.Flags().BoolVar(&options.offline, "offline", false, "Ask nothing of the provider")
	cmd.Flags().BoolVar(&options.asJSON, "json", false, "Print JSON")
	return cmd
}

func (o *explainOptions) run(cmd *cobra.Command, token string) error {
	if o.config == "" {
		return errors.New("--config is missing: the file with the configuration of Caddy")
	}
	if o.config == "-" && token == "-" {
		return errors.New("the configuration and the token cannot both come from the standard input")
	}
	if token == "-" {
		text, err := readInput(cmd, token)
		if err != nil {
			return err
		}
		token = string(text)
	}
	if token = bareToken(token); token == "" {
		return errors.New("the token is empty")
	}
	if strings.ContainsAny(token, " \t\r\n") {
		return errors.New("there is more than one word, or line, where the token should be")
	}
	app, err := o.provision(cmd)
	if err != nil {
		return err
	}
	handlers, note, err := handlersAt(app, o.site, o.path)
	if err != nil {
		if errors.Is(err, errManyHandlers) {
			return fmt.Errorf("%w (--site, --path)", err)
		}
		return err
	}
	explained, err := explainAt(context.Background(), handlers, token, !o.offline)
	if err != nil {
		return err
	}
	if o.offline {
		explained.Hint = strings.ReplaceAll(explained.Hint, askOnline, askWithoutOffline)
		for i := range explained.Notes {
			explained.Notes[i] = strings.ReplaceAll(explained.Notes[i], askOnline, askWithoutOffline)
		}
	}
	if note != "" {
		explained.Notes = append(explained.Notes, note)
	}
	if o.asJSON {
		err = printJSON(cmd, explained)
	} else {
		explained.print(cmd)
	}
	switch {
	case err != nil:
		return err
	case explained.Status == http.StatusServiceUnavailable: // which says nothing of the token
		cmd.SilenceErrors = true // the answer has it
		return errors.New("it could not be found out")
	case !explained.Accepted:
		return endWithNo(cmd)
	default:
		return nil
	}
}

// bareToken takes off what is copied along with a token: the header's name, the scheme, quotes.
func bareToken(text string) string {
	text = strings.Trim(strings.TrimSpace(text), `"'`)
	if name, rest, ok := strings.Cut(text, ":"); ok && strings.EqualFold(name, "Authorization") {
		text = strings.TrimSpace(rest)
	}
	if scheme, rest, ok := strings.Cut(text, " "); ok && strings.EqualFold(scheme, schemeBearer) {
		text = rest
	}
	return strings.Trim(strings.TrimSpace(text), `"'`)
}

// provision makes the sites of the configuration as Caddy does before it starts them.
func (o *explainOptions) provision(cmd *cobra.Command) (*caddyhttp.App, error) {
	text, err := readInput(cmd, o.config)
	if err != nil {
		return nil, err
	}
	if text, err = o.adapt(cmd, text); err != nil {
		return nil, err
	}
	var config *caddy.Config
	if err := caddy.StrictUnmarshalJSON(text, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", o.config, err)
	}
	if config == nil {
		return nil, fmt.Errorf("%s is empty", o.config)
	}
	// the logs of the configuration belong to the Caddy that runs with it
	config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{Level: "ERROR"}},
	}}
	if err := withoutCertificates(config); err != nil {
		return nil, fmt.Errorf("%s: %w", o.config, err)
	}
	ctx, err := caddy.ProvisionContext(config)
	if err != nil {
		hint := ""
		if strings.Contains(err.Error(), "{env.") {
			hint = "; this command needs the environment variables of the service too"
		}
		return nil, fmt.Errorf("%s: %w%s", o.config, err, hint)
	}
	loaded, err := ctx.AppIfConfigured("http")
	app, ok := loaded.(*caddyhttp.App)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s: %w: there are no sites", o.config, errNoHandler)
	}
	return app, nil
}

// withoutCertificates leaves out what serves certificates: Caddy makes authorities of its own for that when they are not there, in the storage
// of the service. A handler that trusts such an authority needs it, and the service has made it then.
func withoutCertificates(config *caddy.Config) error {
	delete(config.AppsRaw, "tls")
	if !bytes.Contains(config.AppsRaw["http"], []byte(`"pki_`)) {
		delete(config.AppsRaw, "pki")
	}
	if config.AppsRaw["http"] == nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(config.AppsRaw["http"]))
	decoder.UseNumber()
	var app map[string]any
	if err := decoder.Decode(&app); err != nil {
		return fmt.Errorf("the http app: %w", err)
	}
	withoutCertificateHandlers(app)
	servers, _ := app["servers"].(map[string]any)
	for _, server := range servers {
		server, ok := server.(map[string]any)
		if !ok {
			continue
		}
		automatic, _ := server["automatic_https"].(map[string]any)
		if automatic == nil {
			automatic = make(map[string]any)
		}
		automatic["disable_certificates"] = true
		server["automatic_https"] = automatic
	}
	text, err := json.Marshal(app)
	config.AppsRaw["http"] = text
	return err
}

// withoutCertificateHandlers leaves out what has certificates made when it is provisioned, wherever it stands.
func withoutCertificateHandlers(value any) {
	switch value := value.(type) {
	case map[string]any:
		if value["handler"] == "acme_server" {
			clear(value)
			value["handler"] = "subroute"
		}
		delete(value, "client_certificate_automate")
		for _, inner := range value {
			withoutCertificateHandlers(inner)
		}
	case []any:
		for _, inner := range value {
			withoutCertificateHandlers(inner)
		}
	}
}

// adapt makes JSON of the configuration, by the adapter that is named or, as Caddy itself does, by the name of the file.
func (o *explainOptions) adapt(cmd *cobra.Command, text []byte) ([]byte, error) {
	name := o.adapter
	base := strings.ToLower(filepath.Base(o.config))
	if name == "" && !strings.HasSuffix(base, ".json") {
		name = strings.TrimPrefix(filepath.Ext(base), ".")
		if strings.HasPrefix(base, "caddyfile") || name == "" || caddyconfig.GetAdapter(name) == nil {
			name = "caddyfile"
		}
	}
	if name == "" || name == "json" {
		return text, nil
	}
	adapter := caddyconfig.GetAdapter(name)
	if adapter == nil {
		return nil, fmt.Errorf("there is no config adapter %q", name)
	}
	adapted, warnings, err := adapter.Adapt(text, map[string]any{"filename": o.config})
	if err != nil {
		return nil, fmt.Errorf("adapting %s: %w", o.config, err)
	}
	for _, warning := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "Warning: %s\n", warning)
	}
	return adapted, nil
}

// print shows the explanation to a person.
func (e *explanation) print(cmd *cobra.Command) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(cmd.OutOrStdout(), "  %-9s %s\n", name, onTerminal(value))
		}
	}
	switch {
	case e.Accepted:
		fmt.Fprintln(cmd.OutOrStdout(), "accepted")
	case e.Ignored:
		fmt.Fprintln(cmd.OutOrStdout(), "not judged")
	default:
		fmt.Fprintf(cmd.OutOrStdout(), "refused: %s (status %d)\n", e.Reason, e.Status)
	}
	line("passed", strings.Join(e.Passed, ", "))
	line("failed", e.Failed)
	line("expected", e.Expected)
	line("got", e.Got)
	line("cause", e.Cause)
	line("hint", e.Hint)
	line("issuer", e.Issuer)
	for _, note := range e.Notes {
		line("note", note)
	}
}
