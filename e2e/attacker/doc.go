// Package attacker attacks a server on this machine over the network, as a stranger in the cluster can: with connections, streams,
// headers and bodies that cost the server more than they cost the attacker.
//
//   - party.go: attackers, their addresses, and how they connect; only loopback addresses are attacked.
//   - connections.go: connections that do nothing.
//   - requests.go: requests over HTTP/1.1.
//   - streams.go: requests over HTTP/2, or HTTP/1.1 where the server speaks no HTTP/2.
//
// Every attack ends with its context. Attackers that are cut off connect again after a pause, so that the attack costs the machine,
// which they share with the server, no more than it has to.
package attacker
