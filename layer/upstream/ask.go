package upstream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// askFor is how long a person may take to open the link of a held call.
const askFor = 15 * time.Minute

// askRef is the link that is out.
type askRef struct {
	id     string
	scopes []string
	end    time.Time
}

// An asked is a held call's question to the person, as it is stored: for whom, and for which scopes.
type askedFor struct {
	Server  string   `json:"server"`
	Tenant  string   `json:"tenant,omitempty"`
	Issuer  string   `json:"issuer"`
	Subject string   `json:"subject"`
	Scopes  []string `json:"scopes,omitempty"` // of the server's challenge; nil: as discovered
}

// hashed is the id of a document that is found by a random text: the text itself is not stored.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// askPerson returns the question for the person. Calls that are held for the same reason share one link.
func (e *entry) askPerson(ctx context.Context, scopes []string) (*warder.Ask, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.s.k.now()
	if e.ask.id == "" || now.Add(askFor/3).After(e.ask.end) || !slices.Equal(e.ask.scopes, scopes) {
		id := rand.Text()
		body, err := json.Marshal(askedFor{e.s.name, e.owner.tenant, e.owner.issuer, e.owner.subject, scopes})
		if err != nil {
			return nil, fmt.Errorf("encode question: %w", err)
		}
		end := now.Add(askFor)
		_, err = e.s.k.deps.State.Put(ctx, state.Doc{Kind: docAsk, ID: hashed(id), Owner: e.owner.key(), Topic: e.s.name, NotAfter: end, Body: body})
		if err != nil {
			return nil, fmt.Errorf("keep question: %w", err)
		}
		e.ask = askRef{id: id, scopes: slices.Clone(scopes), end: end}
	}
	return &warder.Ask{
		Hold: e.ask.id, URL: e.s.k.deps.Base + pathConnect + url.PathEscape(e.s.name) + "?hold=" + e.ask.id,
		Message: "Authorize Warder to use the server " + e.s.name + " for you, then send the call again.",
	}, nil
}
