package cluster

import (
	"errors"
	"fmt"
	"net"
)

// claimPort is one that nothing listens on but a claim.
const claimPort = "15999"

// ServiceIP is a ClusterIP on which nothing else on this machine listens, or is about to, whichever run it is of.
type ServiceIP struct {
	// Address is from the part of the range that API servers give none away from by themselves.
	Address string
	claim   net.Listener
}

// ClaimServiceIP claims one, until it is closed. That a port is free now would not do: what is started there listens a while later.
func ClaimServiceIP() (*ServiceIP, error) {
	var errs []error
	for last := 20; last < 250; last++ {
		address := fmt.Sprintf("127.10.0.%d", last)
		claim, err := net.Listen("tcp", net.JoinHostPort(address, claimPort))
		if err == nil {
			return &ServiceIP{Address: address, claim: claim}, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("claim a ClusterIP: %w", errors.Join(errs[0], errs[len(errs)-1]))
}

// Close gives it back, once nothing listens there any more.
func (s *ServiceIP) Close() error { return s.claim.Close() }
