package istiod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
)

const (
	// Namespace is Istio's own, which the charts' names depend on.
	Namespace = "istio-system"
	// InjectorConfiguration is the name of the charts' MutatingWebhookConfiguration.
	InjectorConfiguration = "istio-sidecar-injector"

	// readyTimeout bounds the time from its start until the API server can call it: seconds, on a machine at rest.
	readyTimeout = 2 * time.Minute
	stopTimeout  = 15 * time.Second
	// lifetime of the tokens: no run takes longer.
	lifetime = 24 * time.Hour
)

// The ports of the webhook: that of the charts' Service, and the one that stands in where it takes rights to listen there.
const (
	chartsPort = 443
	otherPort  = 15017
)

// The other ports.
const (
	xdsPort        = "15012"
	plainXDSPort   = "15010"
	monitoringPort = "15014"
	healthPort     = "8080"
)

// Istiod is one that runs.
type Istiod struct {
	cluster *cluster.Cluster
	run     *cluster.Run
	binary  string
	values  string
	// service is the Service's ClusterIP, port its port for the webhook.
	service *cluster.ServiceIP
	port    int64
	process *process.Process
}

// Start installs the charts with a file of values, runs the binary that Build gave, and returns when the API server can
// have pods injected.
func Start(ctx context.Context, c *cluster.Cluster, run *cluster.Run, binary, values string) (*Istiod, error) {
	i := &Istiod{cluster: c, run: run, binary: binary, values: values}
	if err := i.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start istiod: %w", err), i.Stop())
	}
	return i, nil
}

func (i *Istiod) start(ctx context.Context) error {
	if err := i.claimAddress(); err != nil {
		return err
	}
	charts, err := i.render(ctx)
	if err != nil {
		return err
	}
	if err := i.install(ctx, charts); err != nil {
		return fmt.Errorf("install the charts: %w", err)
	}
	kubeconfig, err := i.writeKubeconfig(ctx, charts.deployment.Spec.Template.Spec.ServiceAccountName)
	if err != nil {
		return fmt.Errorf("write istiod's kubeconfig: %w", err)
	}
	environment, err := i.environment(ctx, charts)
	if err != nil {
		return fmt.Errorf("make istiod's environment: %w", err)
	}
	i.process, err = process.Start(process.Spec{
		Name: "istiod",
		Path: i.binary,
		Args: append(charts.deployment.Spec.Template.Spec.Containers[0].Args, i.flags(kubeconfig)...),
		Env:  environment,
		Log:  i.LogFile(),
	})
	if err != nil {
		return err
	}
	return i.waitUntilReady(ctx)
}

func (i *Istiod) install(ctx context.Context, c *charts) error {
	if err := i.makeNamespace(ctx); err != nil {
		return err
	}
	manifests, err := encode(c.apply)
	if err != nil {
		return err
	}
	return i.Apply(ctx, Namespace, manifests)
}

// flags are added to those of the Deployment: where to listen, and how to reach the API server.
func (i *Istiod) flags(kubeconfig string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--httpsAddr=" + i.webhook(),
		"--secureGRPCAddr=" + i.at(xdsPort),
		"--grpcAddr=" + i.at(plainXDSPort),
		"--monitoringAddr=" + i.at(monitoringPort),
		"--httpAddr=" + i.at(healthPort),
		"--ctrlz_port=0",
	}
}

func (i *Istiod) webhook() string { return i.at(strconv.FormatInt(i.port, 10)) }

func (i *Istiod) at(port string) string { return net.JoinHostPort(i.service.Address, port) }

// URL is where its webhook answers.
func (i *Istiod) URL() string { return "https://" + i.webhook() + "/inject" }

// Stop asks istiod to end, and waits until it has.
func (i *Istiod) Stop() error {
	var errs []error
	if i.process != nil {
		errs = append(errs, i.process.Stop(stopTimeout))
	}
	if i.service != nil {
		errs = append(errs, i.service.Close())
	}
	return errors.Join(errs...)
}

// LogFile is where its log goes.
func (i *Istiod) LogFile() string { return i.run.Log("istiod") }

// claimAddress claims a ClusterIP. Whoever may not listen on the charts' own port, which takes root, gets another.
func (i *Istiod) claimAddress() (err error) {
	if i.service, err = cluster.ClaimServiceIP(); err != nil {
		return err
	}
	i.port = chartsPort
	switch listener, err := net.Listen("tcp", i.webhook()); {
	case errors.Is(err, fs.ErrPermission):
		i.port = otherPort
	case err != nil:
		return err
	default:
		return listener.Close()
	}
	return nil
}

// writeKubeconfig writes one that has the rights of istiod's service account.
func (i *Istiod) writeKubeconfig(ctx context.Context, account string) (string, error) {
	token, err := i.token(ctx, Namespace, account, &authenticationv1.TokenRequestSpec{})
	if err != nil {
		return "", err
	}
	config, err := clientcmd.LoadFromFile(i.cluster.Kubeconfig)
	if err != nil {
		return "", err
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	}
	file := filepath.Join(i.run.Dir, "istiod.kubeconfig")
	return file, clientcmd.WriteToFile(*config, file)
}

func (i *Istiod) token(ctx context.Context, namespace, account string, spec *authenticationv1.TokenRequestSpec) (string, error) {
	spec.ExpirationSeconds = new(int64(lifetime.Seconds()))
	request := &authenticationv1.TokenRequest{Spec: *spec}
	made, err := i.cluster.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("make a token for service account %s/%s: %w", namespace, account, err)
	}
	return made.Status.Token, nil
}

// Metrics returns the text of its /metrics.
func (i *Istiod) Metrics(ctx context.Context) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.at(monitoringPort)+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	return io.ReadAll(response.Body)
}

func (i *Istiod) waitUntilReady(ctx context.Context) error {
	last := errors.New("never asked")
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, readyTimeout, true, func(ctx context.Context) (bool, error) {
		if err := i.process.Ended(); err != nil {
			return false, err
		}
		last = i.ready(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait until istiod is ready: %w: %w; the end of its log:\n%s", err, last, process.Tail(i.LogFile(), 15))
	}
	return nil
}

// ready asks istiod, and sees whether it has told the API server its CA.
func (i *Istiod) ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.at(healthPort)+"/ready", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /ready: %s", response.Status)
	}
	return i.webhooksReady(ctx)
}

func (i *Istiod) webhooksReady(ctx context.Context) error {
	registrations := i.cluster.Client.AdmissionregistrationV1()
	injector, err := registrations.MutatingWebhookConfigurations().Get(ctx, InjectorConfiguration, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(injector.Webhooks, func(w admissionv1.MutatingWebhook) bool { return len(w.ClientConfig.CABundle) == 0 }) {
		return fmt.Errorf("%s has no CA yet", injector.Name)
	}
	validators, err := registrations.ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return err
	}
	for _, validator := range validators.Items {
		if policy := validator.Webhooks[0].FailurePolicy; policy == nil || *policy != admissionv1.Fail {
			return fmt.Errorf("%s is not in force yet", validator.Name) // istiod puts it in force once it has answered
		}
	}
	return nil
}
