package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/store"
)

// Sizes of the identity measurement.
const (
	identityPrincipals = 10_000
	identityPolicies   = 1000
	identityGrants     = 1000
	identityIssuer     = "http://127.0.0.1:1/idp" // nobody listens there: its keys are in a file
)

// A crowd is callers with tokens bound to one key, as one client on one machine would hold them.
type crowd struct {
	address string // of the endpoint, as proofs name it
	prover  *jose.Prover
	tokens  []string
	next    atomic.Int64
}

// headers are those of the next caller's next call.
func (c *crowd) headers() (string, error) {
	token := c.tokens[c.next.Add(1)%int64(len(c.tokens))]
	proof, err := c.prover.Proof("POST", c.address, token, "")
	if err != nil {
		return "", err
	}
	return "Authorization: DPoP " + token + "\r\nDPoP: " + proof + "\r\n", nil
}

// identity measures what a caller with a DPoP-bound token costs more than one with a bearer token, with
// 1,000 policies, 10,000 callers and 1,000 grants, and what one signature check alone costs.
func (b *benchmark) identity(echo *process, plain *gateway) error {
	signer, err := jose.NewSigner()
	if err != nil {
		return err
	}
	g, err := b.gateway("identity", "http://"+echo.addr+"/mcp", setup{policies: identityPolicies, effect: "read", identity: signer})
	if err != nil {
		return err
	}
	c, err := newCrowd(signer, "http://"+g.listen+"/mcp/echo")
	if err != nil {
		return err
	}
	bound := g.target("Warder, DPoP")
	bound.crowd = c
	if _, err := drive(bound, 600, 4, len(c.tokens)); err != nil { // every token has been seen once
		return err
	}
	var bearer, dpop []cell
	for range b.rounds {
		x, err := drive(plain.target("Warder"), 600, 1, int(3000*b.scale))
		if err != nil {
			return err
		}
		y, err := drive(bound, 600, 1, int(3000*b.scale))
		if err != nil {
			return err
		}
		bearer, dpop = append(bearer, x), append(dpop, y)
	}
	b.identityCell = median(dpop)
	b.verification = verification()
	b.identityMore = b.identityCell.cpu - median(bearer).cpu - b.verification
	return nil
}

func newCrowd(signer *jose.Signer, address string) (*crowd, error) {
	prover, err := jose.NewProver(nil)
	if err != nil {
		return nil, err
	}
	c := &crowd{address: address, prover: prover}
	now := time.Now()
	for i := range identityPrincipals {
		token, err := signer.Sign("at+jwt", map[string]any{
			"iss": identityIssuer, "sub": fmt.Sprintf("caller-%d", i), "aud": address, "client_id": "bench",
			"iat": now.Unix(), "exp": now.Add(55 * time.Minute).Unix(), "jti": rand.Text(),
			"groups": []string{"eng"}, "cnf": map[string]string{"jkt": prover.Thumbprint()},
		})
		if err != nil {
			return nil, err
		}
		c.tokens = append(c.tokens, token)
	}
	return c, nil
}

// prepareIdentity writes the issuer's keys and the grants before the gateway starts.
func prepareIdentity(dir string, signer *jose.Signer) (err error) {
	set, err := signer.KeySet()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "idp.json"), set, 0o600); err != nil {
		return err
	}
	ctx := context.Background()
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	db, err := store.Open(ctx, filepath.Join(data, "warder.db"))
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, db.Close()) }()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails since Go 1.24
	box, err := seal.New(key)
	if err != nil {
		return err
	}
	br, err := broker.New(ctx, broker.Config{}, broker.Deps{
		State: db.State(), Box: box, Record: func(context.Context, warder.Event) error { return nil },
	})
	if err != nil {
		return err
	}
	defer func() { _ = br.Close() }() // its database goes away
	who := broker.Person{Issuer: "bench", Subject: "operator", Operator: true}
	for i := range identityGrants {
		request := broker.GrantRequest{
			Principal: fmt.Sprintf("%s|caller-%d", identityIssuer, i), Server: "echo", Tools: []string{fmt.Sprintf("tool%d", i)},
			TTL: time.Hour, Reason: "bench", By: broker.Person{Issuer: "bench", Subject: "caller"},
		}
		if i == 0 {
			request.Principal, request.Tools = "group:idp:eng", []string{"echo"}
		}
		rec, err := br.Grants.Request(ctx, request)
		if err != nil {
			return err
		}
		if _, err := br.Grants.Approve(ctx, rec.ID, who, "bench"); err != nil {
			return err
		}
	}
	return nil
}

func firstOf(errs ...error) error {
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return errs[i]
}

// verification is the CPU of one ES256 signature check, the best of several rounds.
func verification() time.Duration {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0
	}
	sum := sha256.Sum256([]byte("proof"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return 0
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	best := time.Hour
	const checks = 200
	for range 15 {
		start := time.Now()
		for range checks {
			if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], sig) {
				return 0
			}
		}
		best = min(best, time.Since(start)/checks)
	}
	return best
}
