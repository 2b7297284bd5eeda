package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"sync"

	"github.com/warder-mcp/warder"
)

// An owner is whose a credential is. For what a person granted it is the person, whichever client and
// agent acts; for what is exchanged it is the caller with client and agent, because the token names them.
// The zero owner is Warder itself.
type owner struct{ tenant, issuer, subject, client, agent string }

func ownerOf(p *warder.Principal, whole bool) owner {
	o := owner{tenant: p.Tenant, issuer: p.Issuer, subject: p.Subject}
	if whole {
		o.client, o.agent = p.Client, p.Agent
	}
	return o
}

// key names the owner in documents and sealed texts.
func (o owner) key() string {
	return o.tenant + "\x1f" + o.issuer + "\x1f" + o.subject + "\x1f" + o.client + "\x1f" + o.agent
}

// docID is the id of the owner's token for a server.
func docID(server string, o owner) string {
	sum := sha256.Sum256([]byte(server + "\x1f" + o.key()))
	return hex.EncodeToString(sum[:])
}

const (
	shards   = 64
	maxShard = 2048 // entries; above, any one is forgotten and read from the store again when it is needed
)

// people holds the entries of a server by owner. Readers of different owners seldom meet.
type people struct {
	seed  maphash.Seed
	shard [shards]struct {
		mu      sync.RWMutex
		byOwner map[owner]*entry
		_       [32]byte
	}
	mu    sync.Mutex
	byID  map[string]*entry
	maker func(o owner) *entry
}

func newPeople(maker func(o owner) *entry) *people {
	p := &people{seed: maphash.MakeSeed(), byID: map[string]*entry{}, maker: maker}
	for i := range p.shard {
		p.shard[i].byOwner = map[owner]*entry{}
	}
	return p
}

// of returns the entry of an owner.
func (p *people) of(o owner) *entry {
	sh := &p.shard[maphash.Comparable(p.seed, o)%shards]
	sh.mu.RLock()
	e := sh.byOwner[o]
	sh.mu.RUnlock()
	if e != nil {
		return e
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e = sh.byOwner[o]; e != nil {
		return e
	}
	if len(sh.byOwner) >= maxShard {
		for other, old := range sh.byOwner {
			delete(sh.byOwner, other)
			p.drop(old.id)
			break
		}
	}
	e = p.maker(o)
	sh.byOwner[o] = e
	p.mu.Lock()
	p.byID[e.id] = e
	p.mu.Unlock()
	return e
}

func (p *people) drop(id string) {
	p.mu.Lock()
	delete(p.byID, id)
	p.mu.Unlock()
}

// byDoc returns the entry whose token is a document, nil if it is not in memory.
func (p *people) byDoc(id string) *entry {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byID[id]
}

// forget makes every entry ask the store again.
func (p *people) forget() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.byID {
		e.cur.Store(nil)
	}
}
