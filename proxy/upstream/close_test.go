package upstream

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

// TestCloseEndsCalls proves that closing a server ends what is in flight, whatever carries it.
func TestCloseEndsCalls(t *testing.T) {
	leakCheck(t)
	hang := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	child := childConfig("sdk")
	for name, tc := range map[string]struct {
		cfg Config
		rev warder.Revision
	}{
		"stateless": {Config{URL: hang, Era: EraModern}, warder.Revision20260728},
		"session":   {Config{URL: sdkHTTP(t, nil), Era: EraLegacy}, warder.Revision20251125},
		"child":     {child, warder.Revision20251125},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, tc.cfg)
			if tc.rev.Modern() {
				s.learn(func(e *eras) { e.modern = yes })
			}
			l := link(t, s, Key{Owner: "o"}, tc.rev)
			ended := make(chan error, 1)
			go func() {
				_, err := collect(context.Background(), l, callTool(t, tc.rev.Modern(), "1", "hang", ""))
				ended <- err
			}()
			time.Sleep(50 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := s.Close(ctx); err != nil {
				t.Error(err)
			}
			select {
			case err := <-ended:
				if reasonOf(err) != ReasonShutdown {
					t.Errorf("error %v, want %s", err, ReasonShutdown)
				}
			case <-time.After(2 * time.Second):
				t.Error("the call goes on")
			}
			if _, err := s.Link(t.Context(), Key{Owner: "new"}, Init{Revision: tc.rev}); err == nil && !tc.rev.Modern() {
				t.Error("a closed server opened a link")
			}
			if n := s.Stats().InFlight; n != 0 {
				t.Errorf("%d calls in flight", n)
			}
			if err := s.Close(ctx); err != nil {
				t.Errorf("a second close: %v", err)
			}
		})
	}
}
