package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// connection says where istiod is, and what of.
type connection struct {
	address, serverName string
	caFile, tokenFile   string
}

func proxyCommand() *cobra.Command {
	var to connection
	var podFile string
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "proxy",
		Short: "Ask istiod for all that the proxy of a pod asks for, and print it as JSON",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(command.Context(), timeout)
			defer cancel()
			return printProxy(ctx, command.OutOrStdout(), to, podFile)
		},
	}
	flags := command.Flags()
	flags.StringVar(&to.address, "address", "", "host:port of istiod's xDS over TLS")
	flags.StringVar(&to.serverName, "server-name", "istiod."+istioNamespace+".svc", "the name that istiod's certificate is for")
	flags.StringVar(&to.caFile, "ca-file", "", "the root that istiod's certificate is checked against")
	flags.StringVar(&to.tokenFile, "token-file", "", "the pod's service account token, for the audience istio-ca")
	flags.StringVar(&podFile, "pod", "", "file of the pod, as the API server has it")
	flags.DurationVar(&timeout, "timeout", 20*time.Second, "how long all of it may take")
	return command
}

func printProxy(ctx context.Context, out io.Writer, to connection, podFile string) error {
	pod, err := readPod(podFile)
	if err != nil {
		return err
	}
	node, err := nodeOf(pod)
	if err != nil {
		return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	connected, err := to.dial()
	if err != nil {
		return fmt.Errorf("connect to istiod: %w", err)
	}
	defer func() { _ = connected.Close() }()
	ctx, err = to.authorize(ctx)
	if err != nil {
		return err
	}
	received, err := ask(ctx, connected, node)
	if err != nil {
		return fmt.Errorf("ask istiod as %s: %w", node.GetId(), err)
	}
	return received.print(out, node)
}

func readPod(file string) (*corev1.Pod, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	if err := yaml.Unmarshal(content, pod); err != nil {
		return nil, fmt.Errorf("read the pod in %s: %w", file, err)
	}
	return pod, nil
}

func (c connection) dial() (*grpc.ClientConn, error) {
	root, err := os.ReadFile(c.caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, errors.New(c.caFile + " holds no certificate")
	}
	const largest = 64 << 20 // the answer for a whole mesh is larger than what gRPC takes by itself
	return grpc.NewClient(c.address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: c.serverName})),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largest)))
}

// authorize has istiod know whose proxy asks, as the agent does before it has a certificate.
func (c connection) authorize(ctx context.Context) (context.Context, error) {
	token, err := os.ReadFile(c.tokenFile)
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(token))), nil
}
