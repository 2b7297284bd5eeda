package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// transit is the transit engine of Vault as far as it is asked: one ecdsa-p256 key with versions.
type transit struct {
	mu   sync.Mutex
	keys []*ecdsa.PrivateKey
	down bool
}

func (v *transit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.down:
		w.WriteHeader(http.StatusServiceUnavailable) // sealed
	case r.Header.Get("X-Vault-Token") != "t0ken" || r.Header.Get("X-Vault-Namespace") != "team":
		w.WriteHeader(http.StatusForbidden)
	case r.Method == http.MethodPost && r.URL.Path == "/v1/transit/keys/warder/rotate":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		v.keys = append(v.keys, key)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet && r.URL.Path == "/v1/transit/keys/warder":
		keys := map[string]any{}
		for i, k := range v.keys {
			der, err := x509.MarshalPKIXPublicKey(k.Public())
			if err != nil {
				panic(err)
			}
			keys[strconv.Itoa(i+1)] = map[string]string{"public_key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"type": "ecdsa-p256", "latest_version": len(v.keys), "keys": keys}})
	case r.Method == http.MethodPost && r.URL.Path == "/v1/transit/sign/warder/sha2-256":
		v.sign(w, r)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (v *transit) sign(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Input     string `json:"input"`
		Version   int    `json:"key_version"`
		Marshal   string `json:"marshaling_algorithm"`
		Prehashed bool   `json:"prehashed"`
	}
	err := json.NewDecoder(r.Body).Decode(&in)
	input, err2 := base64.StdEncoding.DecodeString(in.Input)
	if err != nil || err2 != nil || in.Marshal != "jws" || in.Prehashed || in.Version < 1 || in.Version > len(v.keys) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	sum := sha256.Sum256(input)
	a, b, err := ecdsa.Sign(rand.Reader, v.keys[in.Version-1], sum[:])
	if err != nil {
		panic(err)
	}
	signature := fmt.Sprintf("vault:v%d:%s", in.Version, base64.RawURLEncoding.EncodeToString(joinES256(a, b)))
	_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]string{"signature": signature}})
}

func TestVault(t *testing.T) {
	t.Setenv("WARDER_TEST_VAULT", "t0ken")
	engine := &transit{}
	srv := httptest.NewServer(engine)
	t.Cleanup(srv.Close)
	w := newWorld(t, func(c *Config, d *Deps) {
		c.Keys.KMS.Vault = Vault{Address: srv.URL, Key: "warder", Namespace: "team"}
		c.Keys.KMS.Vault.Token.Env = "WARDER_TEST_VAULT"
		d.KMS = srv.Client()
	})
	token := w.login().text("access_token")
	if w.claims(token)["sub"] != "ada" {
		t.Error("a token that Vault signed does not verify")
	}
	if ring := w.is.keys.current.Load().ring; ring.Keys[0].Sealed != "" || ring.Keys[0].Handle != "1" {
		t.Errorf("ring: %+v", ring.Keys[0])
	}
	if err := w.is.Rotate(t.Context(), "operator"); err != nil {
		t.Fatal(err)
	}
	w.clock.move(w.is.cfg.Keys.Publish)
	fresh := mint(t, w.replica(t), time.Minute)
	if kid(t, fresh) == kid(t, token) || len(engine.keys) != 2 {
		t.Errorf("not rotated: %d versions", len(engine.keys))
	}
	if err := accepted(t, w.is, fresh); err != nil {
		t.Error(err)
	}
	engine.mu.Lock()
	engine.down = true
	engine.mu.Unlock()
	r := w.post("token", redeemForm(w.code()))
	w.wants("vault is sealed", r, 503, "temporarily_unavailable", "unavailable")
	if err := w.is.Rotate(t.Context(), "operator"); err == nil {
		t.Error("rotated without the key management system")
	}
}
