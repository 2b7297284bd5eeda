package cli

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder/layer/record"
)

func auditReceiptCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "receipt",
		Short: "Take signed receipts of decisions out of the trail, and verify them",
	})
	cmd.AddCommand(auditReceiptShowCommand(), auditReceiptVerifyCommand())
	return cmd
}

func auditReceiptShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show EXCHANGE",
		Short:   "Print the receipt of an exchange, for whoever must not take your word for it",
		Example: "  warder audit receipt show 01m81q1ack4184v4ahggz8md9b >receipt.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := locate(cmd)
			if err != nil {
				return err
			}
			trail, err := openTrail(at)
			if err != nil {
				return err
			}
			receipt, err := trail.Receipt(cmd.Context(), args[0])
			switch {
			case errors.Is(err, record.ErrNotCovered):
				return fail(exitFailed, "try again in a second", err)
			case err != nil:
				return fail(exitFailed, "list them with: warder audit show", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", receipt)
			return err
		},
	}
	stateFlags(cmd)
	return cmd
}

func auditReceiptVerifyCommand() *cobra.Command {
	var key, request string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a receipt offline",
		Long: "Verify checks a receipt that was taken out of the trail, or that came with an answer (the member\n" +
			record.MetaReceipt + " of its _meta), with nothing but the public key of the log.\n\n" +
			"Exit code 4 means that the receipt is not as it was signed.",
		Example: "  warder audit receipt verify receipt.json --key 'gate.example.com/audit+…' --request request.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			if key == "" {
				if key, err = ownKey(cmd); err != nil {
					return err
				}
			}
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read receipt: %w", err)
			}
			receipt, err := record.VerifyReceipt(raw, key)
			if err != nil {
				return fail(exitVerify, "", err)
			}
			if request != "" {
				sent, err := os.ReadFile(request)
				if err != nil {
					return fmt.Errorf("read request: %w", err)
				}
				if !receipt.IsOfRequest(sent) {
					return fail(exitVerify, "it must be the request byte for byte, and the receipt one from an answer", errors.New("the receipt is not of this request"))
				}
			}
			return printReceipt(p, receipt)
		},
	}
	stateFlags(cmd)
	cmd.Flags().StringVar(&key, "key", "", "public key of the log, kept elsewhere (default: the one in the data folder)")
	cmd.Flags().StringVar(&request, "request", "", "file with the request, to see that the receipt is of it")
	_ = cmd.MarkFlagFilename("request")
	return cmd
}

// ownKey is the public key in the data folder.
func ownKey(cmd *cobra.Command) (string, error) {
	at, err := locate(cmd)
	if err != nil {
		return "", err
	}
	trail, err := openTrail(at)
	if err != nil {
		return "", err
	}
	return trail.VerifierKey()
}

func printReceipt(p *printer, r record.Receipt) error {
	if p.json {
		return p.writeJSON(r)
	}
	said := ""
	if e := r.Event; e != nil {
		who := "-"
		if e.Principal != nil {
			who = e.Principal.Subject
		}
		said = fmt.Sprintf("%s %s: %s %s %s on %s, %s %s, policies %v, configuration %s", e.Time.UTC().Format(time.RFC3339), e.Outcome,
			who, e.Method, orDash(e.Target), orDash(e.Server), orDash(string(e.Control)), orDash(string(e.Reason)), e.Policies, orDash(e.ConfigDigest))
	}
	if s := r.Statement; s != nil {
		said = fmt.Sprintf("%s %s: %s %s on %s, policies %v, grant %s, approval %s, configuration %s", s.Time.Format(time.RFC3339), s.Decision,
			s.Method, orDash(s.Target), orDash(s.Server), s.Policies, orDash(s.Grant), orDash(s.Approval), orDash(s.Config))
	}
	return p.text("the receipt is as it was signed\n%s: exchange %s\n%s", oneLine(r.Origin), oneLine(r.Exchange), lines(said))
}
