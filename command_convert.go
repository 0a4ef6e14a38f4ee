package openidconnect

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/apisix"
)

func convertAPISIXCommand() *cobra.Command {
	var options apisix.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "convert-apisix <plugin.json|->",
		Short: "Turns the configuration of the openid-connect plugin of APISIX into a Caddyfile",
		Long: `
Prints a Caddyfile that does what a route of APISIX or API7 does with its plugin
openid-connect. The file holds the plugin's attributes, or the route with them; "-" reads it
from the standard input.

What becomes of each attribute is told beside it (on the standard error): translated,
changed in its meaning, not needed any more, or refused, with the reason. Secrets are not
copied: the Caddyfile names environment variables to put them into. With --json all
of it is one object.

The exit code is 2 if an attribute is refused.`,
		Example: `  caddy openid-connect convert-apisix plugin.json > Caddyfile
  caddy openid-connect convert-apisix --site app.example.com --upstream localhost:8080 - < route.json`,
		Args: exactlyOneArgument("the file with the plugin's attributes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readInput(cmd, args[0])
			if err != nil {
				return err
			}
			conversion, err := apisix.Convert(text, options)
			if err != nil {
				return fmt.Errorf("converting %s: %w", inputName(args[0]), err)
			}
			return printConversion(cmd, conversion, asJSON)
		},
	}
	cmd.Flags().StringVar(&options.Site, "site", "", "Address of the site (default: of the route, else example.com)")
	cmd.Flags().StringVar(&options.Upstream, "upstream", "", "Address of the upstream (default: of the route, else localhost:8080)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

func printConversion(cmd *cobra.Command, conversion *apisix.Conversion, asJSON bool) error {
	refused := false
	for _, attribute := range conversion.Attributes {
		refused = refused || attribute.Outcome == apisix.Refused
		if !asJSON {
			line := fmt.Sprintf("%-10s  %s", attribute.Outcome, onTerminal(attribute.Name))
			if attribute.Note != "" {
				line += ": " + onTerminal(attribute.Note)
			}
			fmt.Fprintln(cmd.ErrOrStderr(), line)
		}
	}
	var err error
	if asJSON {
		err = printJSON(cmd, conversion)
	} else {
		_, err = io.WriteString(cmd.OutOrStdout(), conversion.Caddyfile)
	}
	if err == nil && refused {
		return endWithNo(cmd)
	}
	return err
}
