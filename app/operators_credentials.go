package app

import (
	"context"
	"errors"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/layer/upstream"
)

// credentialAdmin is what people granted Warder at servers, as the admin plane knows it.
type credentialAdmin struct{ keeper *upstream.Keeper }

var _ admin.Credentials = credentialAdmin{}

// List implements admin.Credentials.
func (a credentialAdmin) List(ctx context.Context, q admin.CredentialQuery) (admin.Page[admin.Credential], error) {
	limit := q.Limit
	if limit == 0 {
		limit = 100
	}
	list, err := a.keeper.List(ctx, q.Server, q.After, limit+1)
	if err != nil {
		return admin.Page[admin.Credential]{}, err
	}
	page := admin.Page[admin.Credential]{Items: []admin.Credential{}}
	if len(list) > limit {
		list = list[:limit]
		page.Next = list[limit-1].ID
	}
	for i := range list {
		h := &list[i]
		page.Items = append(page.Items, admin.Credential{ID: h.ID, Kind: "oauth", Server: h.Server, Owner: shown(h.Owner), Scopes: h.Scopes, NotAfter: h.NotAfter})
	}
	return page, nil
}

// Remove implements admin.Credentials.
func (a credentialAdmin) Remove(ctx context.Context, by *admin.Operator, id string) error {
	err := a.keeper.Remove(ctx, id, by.Name())
	if errors.Is(err, upstream.ErrNotHeld) {
		return admin.ErrNotFound
	}
	return err
}
