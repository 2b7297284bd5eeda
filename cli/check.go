package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/catalog"
	"github.com/warder-mcp/warder/config"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [CONFIG]",
		Short: "Check a configuration and everything it refers to",
		Long: "Check reads the configuration, builds everything that serving it would need, without listening\n" +
			"and without starting or asking a server, and reports every key that weakens a control.",
		GroupID: "setup",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			name := fileArg(args)
			cfg, err := p.load(name)
			if err != nil {
				return err
			}
			if err := knownControls(cfg); err != nil {
				return fail(exitConfig, "list them with: warder controls list", err)
			}
			weaker := config.Defaults{}.Weakenings(cfg, time.Now())
			if p.json {
				return p.writeJSON(map[string]any{"file": name, "problems": []config.Problem{}, "weaker": append([]config.Weakening{}, weaker...)})
			}
			if err := p.text("%s is valid: %s, %s, %s", oneLine(name),
				counted(len(cfg.Listen), "front door"), counted(len(cfg.Servers), "server"), counted(len(cfg.Groups), "group")); err != nil {
				return err
			}
			return printWeakenings(p, weaker)
		},
	}
}

// knownControls refuses a mode for a control that does not exist: a typing error would leave the
// control meant in another mode than the file says.
func knownControls(cfg *config.Config) error {
	c, err := catalog.Load()
	if err != nil {
		return err
	}
	var errs []error
	for id := range cfg.Controls {
		if k, ok := c.Control(id); !ok {
			errs = append(errs, fmt.Errorf("controls: no control is named %s", id))
		} else if !k.Implemented() {
			errs = append(errs, fmt.Errorf("controls: %s is planned and does not act yet", id))
		}
	}
	return errors.Join(errs...)
}
