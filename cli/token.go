package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/issuer"
)

func tokenCommand() *cobra.Command {
	var claims issuer.Claims
	cmd := &cobra.Command{
		Use:   "token SERVER",
		Short: "Mint a token of the local issuer for one server or group",
		Long: "Token prints an access token of the issuer that the configuration names as issuer.url. It\n" +
			"is for trying things out on this machine: whoever can read the data folder can be anybody.",
		Example: "  warder token notes --subject ana --groups eng --ttl 15m",
		GroupID: "decide",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			cfg, err := config.Load(configPath(cmd))
			if err != nil {
				return unreadable(err)
			}
			if claims.Audience, err = audience(cfg, args[0]); err != nil {
				return err
			}
			token, err := mint(cmd.Context(), cfg, claims)
			if err != nil {
				return err
			}
			if p.json {
				return p.writeJSON(map[string]any{
					"token": token, "audience": claims.Audience, "subject": claims.Subject,
					"expires_in": int(claims.TTL.Seconds()),
				})
			}
			return p.text("%s", token)
		},
	}
	configFlag(cmd)
	cmd.Flags().StringVar(&claims.Subject, "subject", localUser(), "who the token is for")
	cmd.Flags().StringSliceVar(&claims.Groups, "groups", nil, "groups of the subject")
	cmd.Flags().StringSliceVar(&claims.Scopes, "scopes", nil, "scopes of the token")
	cmd.Flags().StringVar(&claims.Client, "client", "", "OAuth client that holds the token (default warder-local)")
	cmd.Flags().StringVar(&claims.Agent, "agent", "", "agent that acts for the subject")
	cmd.Flags().DurationVar(&claims.TTL, "ttl", issuer.DefaultTTL, fmt.Sprintf("how long the token is good, at most %s", issuer.MaxTTL))
	return cmd
}

// audience is the canonical URI of a server or group.
func audience(cfg *config.Config, name string) (string, error) {
	resource, found := "", false
	var names []string
	for _, s := range cfg.Servers {
		names = append(names, s.Name)
		if s.Name == name {
			resource, found = s.Resource, true
		}
	}
	for _, g := range cfg.Groups {
		names = append(names, g.Name)
		if g.Name == name {
			resource, found = g.Resource, true
		}
	}
	if !found {
		return "", fail(exitFailed, "known are: "+strings.Join(names, ", "), fmt.Errorf("no server or group is named %q", oneLine(name)))
	}
	if resource == "" {
		resource = cfg.Identity.Resource(name)
	}
	return resource, nil
}

// mint makes a token of Warder's own authorization server.
func mint(ctx context.Context, cfg *config.Config, claims issuer.Claims) (string, error) {
	token, err := app.MintToken(ctx, cfg, claims)
	if errors.Is(err, app.ErrNoIssuer) {
		return "", fail(exitFailed, "set issuer.url, or get a token from your identity provider", err)
	}
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	return token, nil
}
