package config

import (
	"reflect"

	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/layer/identity"
)

// shared refuses one credential behind several servers (control AUT-11), whatever part of a server's section
// refers to it. Certificates and authorities are public and may be shared.
func (v *validator) shared(cfg *Config) {
	var uses []identity.CredentialUse
	for i := range cfg.Servers {
		references(reflect.ValueOf(&cfg.Servers[i]).Elem(), func(ref secret.Ref) {
			uses = append(uses, identity.CredentialUse{Server: cfg.Servers[i].Name, Ref: ref})
		})
	}
	if err := cfg.Identity.CheckShared(uses); err != nil {
		v.add("servers", err.Error(), "give each server its own credential, or name who answers for it in identity.shared_credentials")
	}
}

// references finds every reference to a secret in a value.
func references(at reflect.Value, found func(secret.Ref)) {
	if ref, ok := reflect.TypeAssert[secret.Ref](at); ok {
		if !ref.IsZero() {
			found(ref)
		}
		return
	}
	switch at.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !at.IsNil() {
			references(at.Elem(), found)
		}
	case reflect.Slice, reflect.Array:
		for i := range at.Len() {
			references(at.Index(i), found)
		}
	case reflect.Map:
		for _, key := range at.MapKeys() {
			references(at.MapIndex(key), found)
		}
	case reflect.Struct:
		for i := range at.NumField() {
			if f := at.Type().Field(i); f.IsExported() && f.Name != "CA" && f.Name != "Cert" {
				references(at.Field(i), found)
			}
		}
	default: // texts, numbers and switches refer to nothing
	}
}
