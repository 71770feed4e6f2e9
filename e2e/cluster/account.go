package cluster

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// tokenLifetime is longer than any run takes.
const tokenLifetime = 24 * time.Hour

// As reaches the cluster with the credentials of a service account, as a pod of it would.
func (c *Cluster) As(ctx context.Context, namespace, account string) (*rest.Config, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(tokenLifetime.Seconds()))}}
	made, err := c.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("make a token for service account %s/%s: %w", namespace, account, err)
	}
	config := rest.AnonymousClientConfig(c.Config)
	config.BearerToken = made.Status.Token
	return config, nil
}
