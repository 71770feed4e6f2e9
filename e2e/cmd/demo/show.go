package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/aymanbagabas/go-udiff"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// show prints what became of every pod, and returns an error if that is not what should have.
func (d *demo) show(ctx context.Context) error {
	byNamespace := make([][]corev1.Pod, len(d.namespaces))
	var wrong []error
	for i, n := range d.namespaces {
		pods, err := d.pods(ctx, n)
		if err != nil {
			return err
		}
		byNamespace[i] = pods
		for j := range pods {
			for _, err := range n.wants(d, &pods[j]) {
				wrong = append(wrong, fmt.Errorf("pod %s/%s %w", n.name, pods[j].Name, err))
			}
		}
	}
	if err := d.copies(ctx); err != nil {
		wrong = append(wrong, err)
	}
	version, err := d.cluster.Client.Discovery().ServerVersion()
	if err != nil {
		return fmt.Errorf("ask the API server for its version: %w", err)
	}
	d.showTable(version.GitVersion, byNamespace)
	if err := d.showPatch(byNamespace); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the cluster does not show what it should:\n%w", errors.Join(wrong...))
	}
	d.showVerdict(len(d.namespaces) * podsPerNamespace)
	return nil
}

func (d *demo) showTable(version string, byNamespace [][]corev1.Pod) {
	d.report.Titlef("Every pod, as the API server (Kubernetes %s) has it", version)
	table := tabwriter.NewWriter(d.report.Out(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "  NAMESPACE\tPOD\tINJECTED\tMOUNT\tTRACER\tSAMPLING\tNOTE")
	for i, n := range d.namespaces {
		for j := range byNamespace[i] {
			_, _ = fmt.Fprintln(table, "  "+strings.Join(row(n, &byNamespace[i][j]), "\t"))
		}
	}
	_ = table.Flush()
	d.report.Linef("")
	if d.caller == nil {
		d.report.Linef("The Secret lightstep.cacert was made once, in lightstep-system: the injector has copied it into the labelled namespace.")
		return
	}
	d.report.Linef("bookinfo-default: the injector has looked for Istio, and there is none, so the containers get the satellite CA")
	d.report.Linef("alone. bookinfo-istio-1-7: its profile says that Istio 1.7 is to come. The Secret lightstep.cacert was made once, in")
	d.report.Linef("lightstep-system: the injector has copied it into the two labelled namespaces, and not into the other.")
}

func row(n namespace, pod *corev1.Pod) []string {
	cells := []string{n.name, pod.Name, "no", "-", "-", "-", n.why}
	if pod.Labels[injectedLabel] == "true" {
		cells[2] = "yes"
	}
	if count := mounted(pod); count > 0 {
		cells[3] = fmt.Sprintf("%s in %d/%d", mountPath, count, len(pod.Spec.Containers))
	}
	if s, err := statusOf(pod); err == nil {
		cells[4], cells[6] = s.Tracer, strings.Join(s.Warnings, " ")
	}
	if block, err := tracingOf(pod); err == nil && block != nil {
		cells[5] = fmt.Sprintf("%g %%", block.Sampling)
	}
	return cells
}

// showPatch compares a pod of the first namespace, untouched, with the same one of the last.
func (d *demo) showPatch(byNamespace [][]corev1.Pod) error {
	const app = "reviews-v3"
	before, after := find(byNamespace[0], app), find(byNamespace[len(byNamespace)-1], app)
	if before == nil || after == nil {
		return fmt.Errorf("no pod of %s to compare", app)
	}
	d.report.Titlef("What was added to one of them: %s without and with the label on its namespace", app)
	texts := make([]string, 0, 2)
	for _, pod := range []*corev1.Pod{before, after} {
		text, err := yaml.Marshal(reduced(pod))
		if err != nil {
			return fmt.Errorf("write pod %s as YAML: %w", pod.Name, err)
		}
		texts = append(texts, strings.ReplaceAll(string(text), d.token, "(the token)"))
	}
	for line := range strings.Lines(udiff.Unified("unlabelled", "labelled", texts[0], texts[1])) {
		d.report.Linef("%s", d.coloured(strings.TrimRight(line, "\n")))
	}
	return nil
}

func (d *demo) coloured(line string) string {
	switch {
	case strings.HasPrefix(line, "+"):
		return d.report.Good(line)
	case strings.HasPrefix(line, "-"):
		return d.report.Bad(line)
	}
	return line
}

func find(pods []corev1.Pod, app string) *corev1.Pod {
	for i := range pods {
		if strings.HasPrefix(pods[i].Name, app+"-") {
			return &pods[i]
		}
	}
	return nil
}

// reducedPod is a pod without what differs between any two: names, times, addresses, the service account's token.
type reducedPod struct {
	Metadata reducedMetadata `json:"metadata"`
	Spec     corev1.PodSpec  `json:"spec"`
}

type reducedMetadata struct {
	Annotations map[string]string `json:"annotations,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
}

func reduced(pod *corev1.Pod) reducedPod {
	const generated = "kube-api-access-"
	copied := reducedPod{reducedMetadata{pod.Annotations, pod.Labels}, *pod.Spec.DeepCopy()}
	copied.Spec.NodeName = ""
	for i := range copied.Spec.Volumes {
		if v := &copied.Spec.Volumes[i]; strings.HasPrefix(v.Name, generated) {
			*v = corev1.Volume{Name: generated + "*"}
		}
	}
	for i := range copied.Spec.Containers {
		mounts := copied.Spec.Containers[i].VolumeMounts
		for j := range mounts {
			if strings.HasPrefix(mounts[j].Name, generated) {
				mounts[j].Name = generated + "*"
			}
		}
	}
	return copied
}

func (d *demo) showVerdict(pods int) {
	d.report.Titlef("%s %d pods checked, field by field: every one is as it should be. %.1f s in all.",
		d.report.Good("✔"), pods, d.report.Elapsed().Seconds())
	if !d.keep {
		d.report.Linef("To go on by hand: %s", d.report.Hint("make demo DEMO_KEEP=1"))
	}
}

// explainKeeping tells how to go on by hand.
func (d *demo) explainKeeping() {
	kubectl := relative(d.cluster.Kubectl)
	d.report.Titlef("It is all yours, in another terminal, until Ctrl-C here")
	for _, line := range []string{
		"export KUBECONFIG=" + d.cluster.Kubeconfig,
		kubectl + " get pods --all-namespaces --selector '!lightstep.com/injected'",
		kubectl + " label namespace bookinfo-unlabelled lightstep.com/injection=enabled",
		kubectl + " rollout restart deployment --namespace bookinfo-unlabelled",
		"tail -f " + relative(d.injector.LogFile()),
	} {
		d.report.Linef("%s", d.report.Hint(line))
	}
}

// relative shortens a path for a reader who stands in the folder that the demo was started in.
func relative(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	short, err := filepath.Rel(here, path)
	if err != nil || strings.HasPrefix(short, "..") {
		return path
	}
	return short
}
