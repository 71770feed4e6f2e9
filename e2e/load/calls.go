package load

import (
	"bytes"
	"context"
	"fmt"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/kubernetes"
)

// Calls is what an API server has counted of a webhook: calls, and those that it got no use of.
type Calls struct{ All, Failed int }

// Of the API server's metrics, those that count the calls of webhooks: all, those after which it went on as if there were no
// webhook, and those after which it refused the request.
const (
	family        = "apiserver_admission_webhook_"
	allCalls      = family + "admission_duration_seconds"
	openCalls     = family + "fail_open_count"
	rejectedCalls = family + "rejection_count"
)

// CallsOf reads what the API server has counted of a webhook since it was started.
func CallsOf(ctx context.Context, client kubernetes.Interface, webhook string) (Calls, error) {
	text, err := client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return Calls{}, fmt.Errorf("read the API server's metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(ofWebhooks(text)))
	if err != nil {
		return Calls{}, fmt.Errorf("read the API server's metrics: %w", err)
	}
	return Calls{
		All:    sum(families[allCalls], webhook),
		Failed: sum(families[openCalls], webhook) + sum(families[rejectedCalls], webhook),
	}, nil
}

// ofWebhooks keeps the lines about webhooks: there are megabytes of others, which take a second to parse.
func ofWebhooks(text []byte) (kept []byte) {
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte(family)) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// Since is what has come to be since an earlier reading.
func (c Calls) Since(before Calls) Calls { return Calls{c.All - before.All, c.Failed - before.Failed} }

// sum adds up what is counted of the webhook. A metric without any series is not there.
func sum(metric *dto.MetricFamily, webhook string) int {
	total := 0
	for _, series := range metric.GetMetric() {
		for _, label := range series.GetLabel() {
			if label.GetName() == "name" && label.GetValue() == webhook {
				total += int(series.GetCounter().GetValue()) + int(series.GetHistogram().GetSampleCount())
			}
		}
	}
	return total
}
