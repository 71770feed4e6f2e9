package injector

import (
	"bytes"
	"context"
	"fmt"
	"io"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// MetricsURL is where Prometheus would scrape it.
func (i *Injector) MetricsURL() string { return "http://" + i.metrics + "/metrics" }

// Metrics returns the text of /metrics.
func (i *Injector) Metrics(ctx context.Context) ([]byte, error) {
	response, err := get(ctx, i.MetricsURL())
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return text, nil
}

// Metric returns the sum of a counter's or gauge's series that have all the labels given. A metric without any is an
// error.
func (i *Injector) Metric(ctx context.Context, name string, labels map[string]string) (float64, error) {
	text, err := i.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	family, ok := families[name]
	if !ok {
		return 0, fmt.Errorf("read metrics: there is no %s", name)
	}
	sum := 0.0
	for _, series := range family.GetMetric() {
		if hasLabels(series, labels) {
			sum += series.GetCounter().GetValue() + series.GetGauge().GetValue()
		}
	}
	return sum, nil
}

func hasLabels(series *dto.Metric, want map[string]string) bool {
	found := 0
	for _, label := range series.GetLabel() {
		if value, ok := want[label.GetName()]; ok && value == label.GetValue() {
			found++
		}
	}
	return found == len(want)
}
