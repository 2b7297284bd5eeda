package oauth

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
)

// Opener returns the program and arguments that open the URL in the person's browser. The URL is one
// argument of its own and begins with "http", so it can be neither an option nor a command.
func (g *URLs) Opener(ctx context.Context, raw string) ([]string, error) {
	u, err := g.Check(ctx, "authorization url", raw)
	if err != nil {
		return nil, err
	}
	switch runtime.GOOS {
	case "darwin":
		return []string{"/usr/bin/open", u.String()}, nil
	case "windows":
		return []string{"rundll32.exe", "url.dll,FileProtocolHandler", u.String()}, nil
	default:
		return []string{"xdg-open", u.String()}, nil
	}
}

// Open opens the URL in the person's browser and returns when the opener has ended. No shell is
// involved and nothing is read from the environment but PATH.
func (g *URLs) Open(ctx context.Context, raw string) error {
	argv, err := g.Opener(ctx, raw)
	if err != nil {
		return err
	}
	if err := exec.CommandContext(ctx, argv[0], argv[1:]...).Run(); err != nil {
		return fmt.Errorf("open browser: %w", err)
	}
	return nil
}
