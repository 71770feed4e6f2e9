// Package fairshare bounds a resource that clients share. When a resource is used up, a new holder takes the place of an
// existing one: of the client that holds most per valid request, the holding that is worth least.
//
//   - client.go: [Clients] remembers how many valid requests each address has sent lately;
//   - pool.go: [Pool] is one bounded resource, [Holding] a part of it that one connection or request holds;
//   - queue.go: [Queue] lets so many run at once, the clients in turn.
//
// The package knows nothing of HTTP: webhook uses it for connections, for the bytes of bodies and answers, and for
// requests that wait for their namespace or for their turn.
package fairshare
