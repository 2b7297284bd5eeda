package secret

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// AWS is an account and region of AWS. Exactly one of Keys and WebIdentity is set.
type AWS struct {
	Region      string          `yaml:"region"`
	Endpoint    string          `yaml:"endpoint,omitempty"`     // instead of https://SERVICE.REGION.amazonaws.com, such as a VPC endpoint; used for every service
	Keys        *AWSKeys        `yaml:"keys,omitempty"`         // a key pair
	WebIdentity *AWSWebIdentity `yaml:"web_identity,omitempty"` // a role that a workload's JWT may assume, such as IRSA on EKS
}

// AWSKeys is a key pair, read when it is needed.
type AWSKeys struct {
	ID      string `yaml:"id"`                // access key id
	Secret  Ref    `yaml:"secret"`            // secret access key
	Session Ref    `yaml:"session,omitempty"` // session token, if the keys are temporary
}

// AWSWebIdentity assumes a role with a JWT (sts:AssumeRoleWithWebIdentity).
type AWSWebIdentity struct {
	Role  string `yaml:"role"`  // ARN
	Token Ref    `yaml:"token"` // the JWT, read anew each time
}

// An AWSRef is one secret of AWS. Exactly one of Secret and Ciphertext is set.
type AWSRef struct {
	Store      string `yaml:"store,omitempty"`      // name in secrets.aws; default "default"
	Secret     string `yaml:"secret,omitempty"`     // name or ARN of a Secrets Manager secret
	Stage      string `yaml:"stage,omitempty"`      // version stage; default AWSCURRENT
	Ciphertext string `yaml:"ciphertext,omitempty"` // file with the Base64 of a ciphertext that KMS decrypts
	Field      string `yaml:"field,omitempty"`      // member, where the secret is a JSON object; empty: all of it
}

func (r *AWSRef) validate() error {
	if r == nil {
		return nil
	}
	if (r.Secret == "") == (r.Ciphertext == "") {
		return errors.New("secret reference: aws: set exactly one of secret and ciphertext")
	}
	return nil
}

// aws is a Store.
type aws struct {
	cfg    AWS
	client func(service string) (string, *http.Client, error)
	now    func() time.Time

	mu   sync.Mutex // one assumption of a role at a time; guards keys
	keys awsKeys
	end  time.Time
}

func newAWS(cfg AWS, deps Deps) (*aws, error) {
	if cfg.Region == "" || strings.Trim(cfg.Region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return nil, fmt.Errorf("region %q", cfg.Region)
	}
	if (cfg.Keys == nil) == (cfg.WebIdentity == nil) {
		return nil, errors.New("set exactly one of keys and web_identity")
	}
	a := &aws{cfg: cfg, now: deps.Now}
	a.client = func(service string) (string, *http.Client, error) {
		address := cfg.Endpoint
		if address == "" {
			address = "https://" + service + "." + cfg.Region + ".amazonaws.com"
		}
		return storeClient(address, deps)
	}
	_, _, err := a.client("sts")
	return a, err
}

// Fetch implements Store. AWS vouches for no time.
func (a *aws) Fetch(ctx context.Context, ref Ref) (Value, time.Duration, error) {
	r := ref.AWS
	if r.Ciphertext != "" {
		v, err := a.decrypt(ctx, r)
		return v, 0, err
	}
	body := map[string]string{"SecretId": r.Secret}
	if r.Stage != "" {
		body["VersionStage"] = r.Stage
	}
	var answer struct {
		Text   *string `json:"SecretString"`
		Binary []byte  `json:"SecretBinary"`
	}
	if err := a.call(ctx, "secretsmanager", "secretsmanager.GetSecretValue", body, &answer); err != nil {
		return Value{}, 0, err
	}
	if answer.Text != nil {
		answer.Binary = []byte(*answer.Text)
	}
	v, err := field(answer.Binary, r.Field)
	return v, 0, err
}

// decrypt lets KMS open a ciphertext of a file.
func (a *aws) decrypt(ctx context.Context, r *AWSRef) (Value, error) {
	text, err := readFile(r.Ciphertext)
	if err != nil {
		return Value{}, err
	}
	body := map[string]string{"CiphertextBlob": strings.Join(strings.Fields(string(text.Bytes())), "")}
	if _, err := base64.StdEncoding.DecodeString(body["CiphertextBlob"]); err != nil {
		return Value{}, fmt.Errorf("file %s is not Base64", r.Ciphertext)
	}
	var answer struct {
		Plaintext []byte `json:"Plaintext"`
	}
	if err := a.call(ctx, "kms", "TrentService.Decrypt", body, &answer); err != nil {
		return Value{}, err
	}
	defer clear(answer.Plaintext)
	return field(bytes.Clone(answer.Plaintext), r.Field)
}

// call makes one call of a service that speaks AWS JSON 1.1.
func (a *aws) call(ctx context.Context, service, target string, body, answer any) error {
	keys, err := a.credentials(ctx)
	if err != nil {
		return fmt.Errorf("credentials for aws: %w", err)
	}
	base, client, err := a.client(service)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/", bytes.NewReader(payload))
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target)
	signV4(req, payload, keys, a.cfg.Region, service, a.now())
	text, err := do(ctx, client, req)
	if err != nil {
		return err
	}
	defer clear(text)
	if err := json.Unmarshal(text, answer); err != nil {
		return errors.New("the store's answer is not JSON")
	}
	return nil
}

func do(ctx context.Context, client *http.Client, req *http.Request) ([]byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := readAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		clear(text)
		return nil, refused(ctx, resp.StatusCode)
	}
	return text, nil
}

// credentials returns keys that are good now.
func (a *aws) credentials(ctx context.Context) (awsKeys, error) {
	if k := a.cfg.Keys; k != nil {
		value, err := k.Secret.Read(ctx)
		if err != nil {
			return awsKeys{}, err
		}
		keys := awsKeys{id: k.ID, secret: value}
		if !k.Session.IsZero() {
			keys.session, err = k.Session.Read(ctx)
		}
		return keys, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if now.Before(a.end.Add(-time.Minute)) {
		return a.keys, nil
	}
	keys, end, err := a.assume(ctx)
	if err != nil {
		return awsKeys{}, err
	}
	a.keys, a.end = keys, end
	return keys, nil
}

// assume asks STS for keys. The request is not signed: the JWT is the proof.
func (a *aws) assume(ctx context.Context) (awsKeys, time.Time, error) {
	token, err := a.cfg.WebIdentity.Token.Read(ctx)
	if err != nil {
		return awsKeys{}, time.Time{}, err
	}
	base, client, err := a.client("sts")
	if err != nil {
		return awsKeys{}, time.Time{}, err
	}
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {a.cfg.WebIdentity.Role},
		"RoleSessionName": {"warder"}, "WebIdentityToken": {string(token.Bytes())},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/", strings.NewReader(form.Encode()))
	if err != nil {
		return awsKeys{}, time.Time{}, fmt.Errorf("request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	text, err := do(ctx, client, req)
	if err != nil {
		return awsKeys{}, time.Time{}, err
	}
	defer clear(text)
	var answer struct {
		ID      string    `xml:"AssumeRoleWithWebIdentityResult>Credentials>AccessKeyId"`
		Secret  string    `xml:"AssumeRoleWithWebIdentityResult>Credentials>SecretAccessKey"`
		Session string    `xml:"AssumeRoleWithWebIdentityResult>Credentials>SessionToken"`
		End     time.Time `xml:"AssumeRoleWithWebIdentityResult>Credentials>Expiration"`
	}
	if err := xml.Unmarshal(text, &answer); err != nil || answer.ID == "" || answer.Secret == "" {
		return awsKeys{}, time.Time{}, errors.New("the store's answer holds no keys")
	}
	return awsKeys{id: answer.ID, secret: New([]byte(answer.Secret)), session: New([]byte(answer.Session))}, answer.End, nil
}
