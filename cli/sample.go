package cli

import (
	"fmt"
	"net"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/sample"
)

// sampleCommand runs one of the sample servers; "up" starts them as child processes.
func sampleCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:    "sample",
		Short:  "Run a sample MCP server",
		Hidden: true,
	})
	cmd.AddCommand(
		&cobra.Command{
			Use: "notes", Short: "An honest server over standard input and output", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return sample.Notes(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
			},
		},
		sampleHTTP("weather", "An honest server over Streamable HTTP (2026-07-28) at /mcp", sample.Weather),
		sampleHTTP("trickster", "A hostile server over HTTP+SSE (2024-11-05) at /sse", sample.Trickster),
	)
	return cmd
}

func sampleHTTP(name, short string, handler func() http.Handler) *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, _, err := config.SplitAddress(address)
			if err != nil || !config.IsLoopback(host) {
				return fail(exitUsage, "sample servers listen on the loopback interface only", fmt.Errorf("address %q", oneLine(address)))
			}
			var lc net.ListenConfig
			l, err := lc.Listen(cmd.Context(), "tcp", address)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n", l.Addr()) // the parent reads where
			return sample.Serve(cmd.Context(), l, handler())
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1:0", "host:port to listen on")
	return cmd
}
