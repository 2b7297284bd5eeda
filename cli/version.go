package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	warder "github.com/warder-mcp/warder"
)

// version is the version of the module, or of the source it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "development"
	}
	return info.Main.Version
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Say which version this is and which protocol revisions it speaks",
		GroupID: "look",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			about := struct {
				Version   string            `json:"version"`
				Go        string            `json:"go"`
				Platform  string            `json:"platform"`
				Revisions []warder.Revision `json:"revisions"`
			}{version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, warder.Revisions()}
			g := &grid{header: []string{"WHAT", "VALUE"}}
			g.add("warder", about.Version)
			g.add("go", about.Go)
			g.add("platform", about.Platform)
			for _, r := range about.Revisions {
				g.add("MCP revision", string(r))
			}
			return p.print(about, g)
		},
	}
}
