package cli

import (
	"context"
	"errors"
	"fmt"
	"os/user"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/registry"
)

func toolsApproveCommand() *cobra.Command {
	var (
		effect, note      string
		labels            []string
		keep, latest, all bool
	)
	cmd := &cobra.Command{
		Use:   "approve SERVER/NAME@DIGEST",
		Short: "Let exactly this definition be used",
		Long: "Approve writes the decision to the audit trail, then puts it in force, also in a gateway that runs.\n" +
			"Approvals of other definitions of the same name end, unless --keep is given. The digest is part of\n" +
			"the reference, so that what is approved is what was looked at.",
		Example: "  warder tools approve notes/search@3f2a91bc04de --effect read\n  warder tools approve notes --all --effect write --note 'reviewed in #42'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			template := registry.Request{Who: localUser(), Labels: labels, Note: note, Keep: keep}
			if template.Effect, err = registry.ParseEffect(effect); err != nil {
				return fail(exitUsage, "use read, write, destructive or unknown", err)
			}
			return deciding(cmd, func(reg *registry.Registry, by admin.Registry) error {
				chosen, err := choose(cmd, reg, args[0], all, latest)
				if err != nil {
					return err
				}
				return decideAll(cmd.Context(), p, chosen, "approved", func(ctx context.Context, key registry.Key) error {
					req := template
					req.Key = key
					return by.Approve(ctx, req)
				})
			})
		},
	}
	stateFlags(cmd)
	kindFlag(cmd)
	cmd.Flags().StringVar(&effect, "effect", "unknown", "what calling it may change: read, write, destructive; unknown counts as destructive")
	cmd.Flags().StringSliceVar(&labels, "label", nil, "data labels of what it returns")
	cmd.Flags().StringVar(&note, "note", "", "why, for the record")
	cmd.Flags().BoolVar(&keep, "keep", false, "leave approvals of other definitions of the same name in force")
	cmd.Flags().BoolVar(&latest, "latest", false, "take the definition that was seen last when no digest is given")
	cmd.Flags().BoolVar(&all, "all", false, "take every definition of SERVER that was seen last and is in quarantine")
	_ = cmd.RegisterFlagCompletionFunc("effect", cobra.FixedCompletions([]string{"read", "write", "destructive", "unknown"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// choose finds the definitions that a command is about.
func choose(cmd *cobra.Command, reg *registry.Registry, word string, all, latest bool) ([]registry.Entry, error) {
	ctx := cmd.Context()
	if all {
		quarantined := warder.Quarantined
		entries, err := reg.List(ctx, registry.Filter{Server: word, State: &quarantined})
		if err != nil {
			return nil, err
		}
		var chosen []registry.Entry
		for _, e := range entries {
			if e.Latest && approvable(e.Kind) {
				chosen = append(chosen, e)
			}
		}
		if len(chosen) == 0 {
			return nil, fail(exitFailed, "list them with: warder tools list", fmt.Errorf("server %q has nothing in quarantine", oneLine(word)))
		}
		return chosen, nil
	}
	ref, err := named(cmd, word)
	if err != nil {
		return nil, err
	}
	found, err := reg.Find(ctx, ref.Subject, ref.digest)
	if err != nil {
		return nil, err
	}
	if ref.digest == "" && !latest {
		return nil, fail(exitUsage, "look at it with: warder tools show "+describe(&found).short()+"\nhint: then approve that reference, or give --latest",
			errors.New("which definition? the reference has no digest"))
	}
	return []registry.Entry{found}, nil
}

func approvable(kind string) bool {
	return kind == registry.KindTool || kind == registry.KindPrompt || kind == registry.KindInstructions
}

// atOnce bounds the decisions that wait for the audit trail at the same time: each waits for a signed
// checkpoint, and one checkpoint serves them all.
const atOnce = 32

// decideAll decides about each definition and prints what was done. It goes on after an error, so that
// one definition that cannot be approved does not hold up the others.
func decideAll(ctx context.Context, p *printer, chosen []registry.Entry, verb string, decide func(context.Context, registry.Key) error) error {
	results := make([]error, len(chosen))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range chosen {
		group.Go(func() error {
			results[i] = decide(ctx, chosen[i].Key)
			return nil
		})
	}
	errs := []error{group.Wait()}
	done := []string{}
	for i, err := range results {
		e := describe(&chosen[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", e.Kind, e.short(), err))
			continue
		}
		done = append(done, e.Reference)
		if !p.json {
			errs = append(errs, p.text("%s %s %s", verb, e.Kind, oneLine(e.short())))
		}
	}
	if p.json {
		errs = append(errs, p.writeJSON(map[string]any{verb: done}))
	}
	err := errors.Join(errs...)
	if errors.Is(err, admin.ErrRefused) {
		return fail(exitRefused, "", err)
	}
	return err
}

func toolsRevokeCommand() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use:   "revoke SERVER/NAME[@DIGEST]",
		Short: "Take approvals back: the definition disappears from lists and its calls are refused",
		Long:  "Without a digest every approved definition of the name is revoked.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := out(cmd)
			if err != nil {
				return err
			}
			ref, err := named(cmd, args[0])
			if err != nil {
				return err
			}
			return deciding(cmd, func(reg *registry.Registry, by admin.Registry) error {
				chosen, err := revocable(cmd.Context(), reg, ref)
				if err != nil {
					return err
				}
				return decideAll(cmd.Context(), p, chosen, "revoked", func(ctx context.Context, key registry.Key) error {
					return by.Revoke(ctx, registry.Request{Key: key, Who: localUser(), Note: note})
				})
			})
		},
	}
	stateFlags(cmd)
	kindFlag(cmd)
	cmd.Flags().StringVar(&note, "note", "", "why, for the record")
	return cmd
}

// revocable finds the definitions to revoke: the one with the digest, or every approved one.
func revocable(ctx context.Context, reg *registry.Registry, ref reference) ([]registry.Entry, error) {
	if ref.digest != "" {
		e, err := reg.Find(ctx, ref.Subject, ref.digest)
		return []registry.Entry{e}, err
	}
	entries, err := reg.Show(ctx, ref.Subject)
	if err != nil {
		return nil, err
	}
	var chosen []registry.Entry
	for _, e := range entries {
		if e.State == warder.Approved {
			chosen = append(chosen, e)
		}
	}
	if len(chosen) == 0 {
		return nil, fail(exitFailed, "", fmt.Errorf("nothing of %s is approved", ref.Subject))
	}
	return chosen, nil
}

// localUser is the name of the user who runs the command.
func localUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}
