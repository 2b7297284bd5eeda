package proxy

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

// fake is a control that notes its call and answers as told.
type fake struct {
	id   warder.ControlID
	seen *[]string
	do   func(ctx context.Context, x *warder.Exchange) (warder.Decision, error)
}

func (f *fake) Control() warder.ControlID { return f.id }

func (f *fake) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	*f.seen = append(*f.seen, string(f.id))
	if f.do == nil {
		return warder.Continue(), nil
	}
	return f.do(ctx, x)
}

func (f *fake) Record(ctx context.Context, x *warder.Exchange) error {
	_, err := f.Intercept(ctx, x)
	return err
}

func layersOf(seen *[]string, middle *fake) []warder.Layer {
	make1 := func(id string) *fake { return &fake{id: warder.ControlID(id), seen: seen} }
	return []warder.Layer{
		{Name: "gateway", Request: []warder.Interceptor{make1("A")}, Response: []warder.Interceptor{make1("a")}, Complete: []warder.Recorder{make1("ca")}},
		{Name: "tools", Request: []warder.Interceptor{middle}, Response: []warder.Interceptor{make1("b")}},
		{Name: "access", Request: []warder.Interceptor{make1("C")}, Response: []warder.Interceptor{make1("c")}, Complete: []warder.Recorder{make1("cc")}},
	}
}

func TestChainOrder(t *testing.T) {
	t.Parallel()
	var seen []string
	c := NewChain(layersOf(&seen, &fake{id: "B", seen: &seen}), nil, nil)
	x := &warder.Exchange{Request: &warder.Message{}}
	if err := c.Request(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Response(t.Context(), x, &warder.Message{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Complete(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	want := []string{"A", "B", "C", "c", "b", "a", "cc", "ca"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if len(x.Trail) != 6 {
		t.Errorf("trail has %d steps, want 6", len(x.Trail))
	}
}

func TestChainFailsClosed(t *testing.T) {
	t.Parallel()
	boom := errors.New("store gone")
	cases := map[string]struct {
		do   func(ctx context.Context, x *warder.Exchange) (warder.Decision, error)
		code warder.Code
	}{
		"zero decision": {func(context.Context, *warder.Exchange) (warder.Decision, error) { return warder.Decision{}, nil }, warder.CodeDenied},
		"error": {func(context.Context, *warder.Exchange) (warder.Decision, error) {
			return warder.Continue(), boom
		}, warder.CodeUnavailable},
		"panic": {func(context.Context, *warder.Exchange) (warder.Decision, error) { panic("bug") }, warder.CodeUnavailable},
		"late": {func(ctx context.Context, _ *warder.Exchange) (warder.Decision, error) {
			<-ctx.Done()
			return warder.Continue(), nil
		}, warder.CodeUnavailable},
		"challenge": {func(context.Context, *warder.Exchange) (warder.Decision, error) {
			return warder.Decision{Verdict: warder.Challenge}, nil
		}, warder.CodeUnauthenticated},
		"hold": {func(context.Context, *warder.Exchange) (warder.Decision, error) {
			return warder.Decision{Verdict: warder.Hold}, nil
		}, warder.CodeHeld},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen []string
			c := NewChain(layersOf(&seen, &fake{id: "B", seen: &seen, do: tc.do}), nil, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			x := &warder.Exchange{Request: &warder.Message{}}
			err := c.Request(ctx, x)
			if err == nil {
				t.Fatal("passed")
			}
			if err.Code != tc.code || err.Control != "B" {
				t.Errorf("got %s from %s, want %s from B", err.Code, err.Control, tc.code)
			}
			if diff := cmp.Diff([]string{"A", "B"}, seen); diff != "" {
				t.Errorf("ran on after the refusal (-want +got):\n%s", diff)
			}
			if err := c.Complete(t.Context(), x); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]string{"A", "B", "cc", "ca"}, seen); diff != "" {
				t.Errorf("complete did not run (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChainModes(t *testing.T) {
	t.Parallel()
	deny := func(context.Context, *warder.Exchange) (warder.Decision, error) {
		return warder.Refuse(warder.CodeDenied, "no", "because"), nil
	}
	for mode, want := range map[Mode][]string{
		Enforce: {"A", "B"}, Monitor: {"A", "B", "C"}, Off: {"A", "C"},
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			var seen []string
			c := NewChain(layersOf(&seen, &fake{id: "B", seen: &seen, do: deny}), map[warder.ControlID]Mode{"B": mode}, nil)
			x := &warder.Exchange{Request: &warder.Message{}}
			err := c.Request(t.Context(), x)
			if (err != nil) != (mode == Enforce) {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(want, seen); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if mode == Monitor && (len(x.Decisions) != 1 || !x.Decisions[0].Observed || x.Decisions[0].Verdict != warder.Deny) {
				t.Errorf("the refusal was not recorded: %+v", x.Decisions)
			}
		})
	}
}

func TestMonitoredControlChangesNothing(t *testing.T) {
	t.Parallel()
	var seen []string
	strip := &fake{id: "B", seen: &seen, do: func(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
		x.Request = &warder.Message{Method: "changed"}
		return warder.Continue(), nil
	}}
	x := &warder.Exchange{Request: &warder.Message{Method: "as sent"}}
	c := NewChain(layersOf(&seen, strip), map[warder.ControlID]Mode{"B": Monitor}, nil)
	if err := c.Request(t.Context(), x); err != nil || x.Request.Method != "as sent" {
		t.Errorf("got %v with method %q, want the message as sent", err, x.Request.Method)
	}
}

func TestChainRefusesRewriteAfterAccess(t *testing.T) {
	t.Parallel()
	var seen []string
	rewrite := &fake{id: "R", seen: &seen, do: func(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
		x.Request = &warder.Message{Method: "evil"}
		return warder.Continue(), nil
	}}
	layers := append(layersOf(&seen, &fake{id: "B", seen: &seen}), warder.Layer{Name: "record", Request: []warder.Interceptor{rewrite}})
	x := &warder.Exchange{Request: &warder.Message{Method: "good"}}
	err := NewChain(layers, nil, nil).Request(t.Context(), x)
	if err == nil || err.Reason != "rewritten_after_access" || x.Request.Method != "good" {
		t.Errorf("got %v with method %q, want a refusal and the judged message", err, x.Request.Method)
	}
	early := layersOf(&seen, &fake{id: "B", seen: &seen, do: rewrite.do})
	if err := NewChain(early, nil, nil).Request(t.Context(), x); err != nil {
		t.Errorf("a rewrite before access was refused: %v", err)
	}
}

// TestChainSaysWhyItWasCut proves that an exchange that is cut while a control works is refused with the
// reason of the cut, not as if the control had failed.
func TestChainSaysWhyItWasCut(t *testing.T) {
	t.Parallel()
	ctx, cut := context.WithCancelCause(t.Context())
	cause := &warder.Error{Code: warder.CodeDenied, Reason: "revoked", Control: "JIT-04", Public: "Access was revoked."}
	var seen []string
	works := &fake{id: "B", seen: &seen, do: func(ctx context.Context, _ *warder.Exchange) (warder.Decision, error) {
		cut(cause)
		return warder.Decision{}, ctx.Err()
	}}
	x := &warder.Exchange{Request: &warder.Message{}}
	got := NewChain(layersOf(&seen, works), nil, nil).Request(ctx, x)
	if got == nil || got.Code != cause.Code || got.Reason != cause.Reason || got.Control != cause.Control || got.Public != cause.Public {
		t.Errorf("refused with %v, want %v", got, cause)
	}
	if diff := cmp.Diff([]string{"A", "B"}, seen); diff != "" {
		t.Errorf("controls that ran (-want +got):\n%s", diff)
	}
}
