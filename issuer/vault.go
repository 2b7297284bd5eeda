package issuer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/safedial"
)

// A vaultKeeper keeps signing keys in the transit engine of HashiCorp Vault or OpenBao. Each of our
// keys is one version of one transit key; the private keys never leave the engine.
type vaultKeeper struct {
	cfg    Vault
	client *http.Client
}

var _ Keeper = (*vaultKeeper)(nil)

func newVaultKeeper(cfg Vault, client *http.Client) *vaultKeeper {
	cfg.Mount = strings.Trim(cmp.Or(cfg.Mount, "transit"), "/")
	cfg.Address = strings.TrimSuffix(cfg.Address, "/")
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the token goes nowhere else
	return &vaultKeeper{cfg: cfg, client: &own}
}

// Make rotates the transit key and takes its new version.
func (k *vaultKeeper) Make(ctx context.Context) (Signer, string, string, error) {
	if err := k.call(ctx, http.MethodPost, "keys/"+k.cfg.Key+"/rotate", struct{}{}, nil); err != nil {
		return nil, "", "", fmt.Errorf("rotate key in vault: %w", err)
	}
	var answer struct {
		Data struct {
			Type   string `json:"type"`
			Latest int    `json:"latest_version"`
			Keys   map[string]struct {
				Public string `json:"public_key"`
			} `json:"keys"`
		} `json:"data"`
	}
	if err := k.call(ctx, http.MethodGet, "keys/"+k.cfg.Key, nil, &answer); err != nil {
		return nil, "", "", fmt.Errorf("read key from vault: %w", err)
	}
	if answer.Data.Type != "ecdsa-p256" {
		return nil, "", "", fmt.Errorf("key in vault: type %.40q, want ecdsa-p256", answer.Data.Type)
	}
	version := strconv.Itoa(answer.Data.Latest)
	pub, err := parsePublic(answer.Data.Keys[version].Public)
	if err != nil {
		return nil, "", "", fmt.Errorf("key in vault: version %s: %w", version, err)
	}
	return &vaultSigner{keeper: k, pub: pub, version: answer.Data.Latest}, "", version, nil
}

// Open implements Keeper. Nothing is asked until something is signed.
func (k *vaultKeeper) Open(_ context.Context, pub *ecdsa.PublicKey, _, handle string) (Signer, error) {
	version, err := strconv.Atoi(handle)
	if err != nil || version < 1 {
		return nil, fmt.Errorf("signing key: %.40q is not a version of a key in vault", handle)
	}
	return &vaultSigner{keeper: k, pub: pub, version: version}, nil
}

// A vaultSigner signs with one version of the key.
type vaultSigner struct {
	keeper  *vaultKeeper
	pub     *ecdsa.PublicKey
	version int
}

// Public implements Signer.
func (s *vaultSigner) Public() *ecdsa.PublicKey { return s.pub }

// SignES256 has the engine hash and sign the input, and marshal the signature as JWS has it.
func (s *vaultSigner) SignES256(ctx context.Context, input []byte) ([]byte, error) {
	var answer struct {
		Data struct {
			Signature string `json:"signature"`
		} `json:"data"`
	}
	err := s.keeper.call(ctx, http.MethodPost, "sign/"+s.keeper.cfg.Key+"/sha2-256", map[string]any{
		"input": base64.StdEncoding.EncodeToString(input), "key_version": s.version, "marshaling_algorithm": "jws",
	}, &answer)
	if err != nil {
		return nil, fmt.Errorf("sign in vault: %w", err)
	}
	text, ok := strings.CutPrefix(answer.Data.Signature, fmt.Sprintf("vault:v%d:", s.version))
	if !ok {
		return nil, errors.New("sign in vault: the signature is of another version")
	}
	signature, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("sign in vault: %w", err)
	}
	return signature, nil
}

// call sends one request to the engine.
func (k *vaultKeeper) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if in == nil {
		body = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, k.cfg.Address+"/v1/"+k.cfg.Mount+"/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	token, err := k.cfg.Token.Read(ctx)
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", string(token.Bytes()))
	req.Header.Set("X-Vault-Request", "true")
	if k.cfg.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", k.cfg.Namespace)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	if out == nil {
		return nil
	}
	data, err := safedial.ReadAll(resp.Body, 1<<20)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, out)
}

// parsePublic reads a P-256 public key in PEM.
func parsePublic(text string) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fmt.Errorf("%w: not PEM", jose.ErrKey)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", jose.ErrKey, err)
	}
	pub, ok := parsed.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: not a P-256 key", jose.ErrKey)
	}
	return pub, nil
}
