package admin

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// An Alert is what somebody must know at once.
type Alert struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Severity string    `json:"severity"`
	Event    string    `json:"event"`
	Text     string    `json:"text"`
	Reason   string    `json:"reason,omitempty"`
	From     string    `json:"from,omitempty"`
	Until    time.Time `json:"until,omitzero"`
}

// Tries of one alert.
const (
	alertTries   = 3
	alertTimeout = 5 * time.Second
	minSecret    = 32 // bytes
)

// Alerter returns a function that posts alerts to the webhook, signed as Standard Webhooks 1.0 says:
// webhook-id, webhook-timestamp, and in webhook-signature "v1," with the base64 of the HMAC-SHA-256 of
// id.timestamp.body. It returns nil when no webhook is configured. client makes the requests.
func (w *Webhook) Alerter(client *http.Client, now func() time.Time) func(context.Context, Alert) error {
	if w.URL == "" {
		return nil
	}
	hook := *w
	return func(ctx context.Context, a Alert) error {
		key, err := hook.Secret.Read(ctx)
		if err != nil {
			return fmt.Errorf("alert secret: %w", err)
		}
		if len(key.Bytes()) < minSecret {
			return fmt.Errorf("alert secret: want at least %d bytes", minSecret)
		}
		body, err := encode(a)
		if err != nil {
			return err
		}
		var errs []error
		for range alertTries {
			err := hook.post(ctx, client, key.Bytes(), a.ID, now(), body)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
}

func (w *Webhook) post(ctx context.Context, client *http.Client, key []byte, id string, at time.Time, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, alertTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("alert: %w", err)
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", stamp)
	r.Header.Set("Webhook-Signature", "v1,"+sign(key, id, stamp, body))
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("alert: %w", err)
	}
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("alert: %w", err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("alert: the webhook answered %s", resp.Status)
	}
	return nil
}

func sign(key []byte, id, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
