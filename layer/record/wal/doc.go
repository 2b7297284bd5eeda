// Package wal is the write-ahead file of the audit trail: an append-only sequence of records in
// segment files, made durable in groups.
//
// One committer goroutine owns the files. Callers copy their record into the batch that is being
// gathered and, if they need durability, wait for the one fdatasync that makes the whole batch
// durable ([Log.AppendSync]); others return at once and are durable within Options.FlushDelay
// ([Log.Append]). A record that was acknowledged survives the death of the process and of the
// machine; a record that was not acknowledged may or may not be there.
//
// Each record carries its sequence number, the wall clock at its commit, a CRC-32C over the record,
// and a link of a SHA-256 chain over everything before it, so that an edit, a deletion, a reordering
// or a cut can be found and located ([Records], [Scan]). The chain alone does not stop somebody who
// may rewrite the whole file; the signed Merkle tree of package tlog, fed with the same leaf hashes,
// does.
//
// On a write error (full disk, I/O error, files taken away) every waiting caller gets an error, new
// synchronous appends fail at once, queued records stay in memory within a bound, and the committer
// tries again on a fresh segment until it succeeds.
//
//	log, recovery, err := wal.Open("/var/lib/warder/audit/wal", wal.Options{ID: id})
//	seq, err := log.AppendSync(ctx, payload) // durable when err is nil
package wal
