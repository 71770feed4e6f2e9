package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
)

const (
	// profileOfIstio17 is a profile of examples/config.yaml, profileAnnotation is how a namespace picks it.
	profileOfIstio17  = "istio-1-7"
	profileAnnotation = "lightstep.com/profile"
	injectionLabel    = "lightstep.com/injection"

	secretName = "lightstep.cacert"
	secretKey  = "cacert.pem"

	// podsPerNamespace is how many pods examples/bookinfo.yaml makes: one each of productpage, details and ratings, and
	// three versions of reviews.
	podsPerNamespace = 6
	podsTimeout      = 3 * time.Minute
)

// namespace is one that Bookinfo is created in.
type namespace struct {
	name                string
	labels, annotations map[string]string
	// why says in the table why pods are not injected; it is empty where they are to be.
	why string
	// wants lists what is wrong with a pod of it.
	wants func(d *demo, pod *corev1.Pod) []error
}

// namespaces are those of the demo. In the last, the token is delivered by annotation, for which the API server needs a client
// certificate.
func namespaces(authenticated bool) []namespace {
	label := map[string]string{injectionLabel: "enabled"}
	all := []namespace{
		{name: "bookinfo-unlabelled", why: "namespace not labelled", wants: (*demo).wantsUntouched},
		{name: "bookinfo-default", labels: label, wants: (*demo).wantsMount},
		{
			name: "bookinfo-istio-1-7", labels: label,
			annotations: map[string]string{profileAnnotation: profileOfIstio17}, wants: (*demo).wantsTracer,
		},
	}
	if !authenticated {
		return all[:2]
	}
	return all
}

// makeSource makes the one Secret that the injector copies into labelled namespaces.
func (d *demo) makeSource(ctx context.Context) error {
	ca, err := injector.NewCA("satellite CA of the demo")
	if err != nil {
		return err
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secretName}, Data: map[string][]byte{secretKey: ca.PEM}}
	if _, err := d.cluster.Client.CoreV1().Secrets(injector.Namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create Secret %s in namespace %s: %w", secretName, injector.Namespace, err)
	}
	return nil
}

func (d *demo) makeSourceAndNamespaces(ctx context.Context) error {
	if err := d.makeSource(ctx); err != nil {
		return err
	}
	return d.makeNamespaces(ctx)
}

// makeNamespaces makes one that is not labelled, and two that are.
func (d *demo) makeNamespaces(ctx context.Context) error {
	for _, n := range d.namespaces {
		object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: n.labels, Annotations: n.annotations}}
		if _, err := d.cluster.Client.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create namespace %s: %w", n.name, err)
		}
	}
	return nil
}

func (d *demo) removeNamespaces(ctx context.Context) error {
	var errs []error
	for _, n := range d.namespaces {
		err := d.cluster.Client.CoreV1().Namespaces().Delete(ctx, n.name, metav1.DeleteOptions{})
		if !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// applyBookinfo applies the manifest as a user would, with kubectl.
func (d *demo) applyBookinfo(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range d.namespaces {
		group.Go(func() error {
			cmd := exec.CommandContext(ctx, d.cluster.Kubectl, "apply", "--namespace", n.name, "--filename", d.manifest())
			cmd.Env = append(os.Environ(), "KUBECONFIG="+d.cluster.Kubeconfig, "KUBECACHEDIR="+filepath.Join(d.run.Dir, "kube-cache"))
			if output, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("kubectl apply in namespace %s: %w:\n%s", n.name, err, output)
			}
			return nil
		})
	}
	return group.Wait()
}

func (d *demo) waitForPods(ctx context.Context) error {
	problem := errors.New("not looked at yet")
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, podsTimeout, true, func(ctx context.Context) (bool, error) {
		problem = d.podsRunning(ctx)
		return problem == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the pods: %w: %w", err, problem)
	}
	return nil
}

func (d *demo) podsRunning(ctx context.Context) error {
	for _, n := range d.namespaces {
		pods, err := d.pods(ctx, n)
		if err != nil {
			return err
		}
		if len(pods) != podsPerNamespace {
			return fmt.Errorf("namespace %s has %d pods of %d", n.name, len(pods), podsPerNamespace)
		}
		for _, pod := range pods {
			if pod.Status.Phase != corev1.PodRunning {
				return fmt.Errorf("pod %s/%s is %s", n.name, pod.Name, pod.Status.Phase)
			}
		}
	}
	return nil
}

// copies sees that the labelled namespaces have the satellite CA, and the other one has not.
func (d *demo) copies(ctx context.Context) error {
	source, err := d.cluster.Client.CoreV1().Secrets(injector.Namespace).Get(ctx, secretName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, n := range d.namespaces {
		made, err := d.cluster.Client.CoreV1().Secrets(n.name).Get(ctx, secretName, metav1.GetOptions{})
		if len(n.labels) == 0 {
			if !apierrors.IsNotFound(err) {
				return fmt.Errorf("namespace %s is not labelled, and has a Secret %s: %w", n.name, secretName, err)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("namespace %s: %w", n.name, err)
		}
		if !bytes.Equal(made.Data[secretKey], source.Data[secretKey]) {
			return fmt.Errorf("namespace %s has another satellite CA", n.name)
		}
	}
	return nil
}

// pods returns a namespace's pods, sorted by name as the API server does.
func (d *demo) pods(ctx context.Context, n namespace) ([]corev1.Pod, error) {
	list, err := d.cluster.Client.CoreV1().Pods(n.name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the pods of namespace %s: %w", n.name, err)
	}
	return list.Items, nil
}
