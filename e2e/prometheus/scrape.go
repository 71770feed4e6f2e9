package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
)

// scrapeTimeout is Prometheus' own default.
const scrapeTimeout = 10 * time.Second

// target is one to scrape.
type target struct {
	URL    string            `json:"url"`
	Labels map[string]string `json:"labels"`
	// HonorLabels has a label of a series win over the target's of that name, which is renamed otherwise.
	HonorLabels bool `json:"honorLabels"`
}

// scraped are the series that a scrape has found, by their text.
type scraped map[string]labels.Labels

// scrape scrapes each target once. As Prometheus' own loop does, it adds the target's labels, marks a series that is there no
// more as stale, and says by `up` whether the target answered.
func (p *prometheus) scrape(ctx context.Context, targets []target) error {
	appender := p.db.Appender(ctx)
	for i := range targets {
		if err := p.scrapeOne(ctx, appender, &targets[i]); err != nil {
			return errors.Join(fmt.Errorf("scrape %s: %w", targets[i].URL, err), appender.Rollback())
		}
	}
	return appender.Commit()
}

func (p *prometheus) scrapeOne(ctx context.Context, appender storage.Appender, t *target) error {
	found := scraped{}
	up := 0.0
	if body, contentType, err := fetch(ctx, t.URL); err == nil {
		up = 1
		if found, err = p.append(appender, t, body, contentType); err != nil {
			return err
		}
	}
	for key, series := range p.scraped[t.URL] {
		if _, still := found[key]; !still {
			if _, err := appender.Append(0, series, p.now.UnixMilli(), math.Float64frombits(value.StaleNaN)); err != nil {
				return err
			}
		}
	}
	p.scraped[t.URL] = found
	_, err := appender.Append(0, t.label(labels.FromStrings(labels.MetricName, "up")), p.now.UnixMilli(), up)
	return err
}

func fetch(ctx context.Context, url string) (body []byte, contentType string, err error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, "", errors.New(response.Status)
	}
	body, err = io.ReadAll(response.Body)
	return body, response.Header.Get("Content-Type"), err
}

// append stores what a target has said, at the virtual time.
func (p *prometheus) append(appender storage.Appender, t *target, body []byte, contentType string) (scraped, error) {
	parser, err := textparse.New(body, contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return nil, err
	}
	found := scraped{}
	for {
		switch entry, err := parser.Next(); {
		case errors.Is(err, io.EOF):
			return found, nil
		case err != nil:
			return nil, err
		case entry == textparse.EntryType:
			family, _ := parser.Type()
			p.seen.families[string(family)] = true
			continue
		case entry != textparse.EntrySeries:
			continue
		}
		var series labels.Labels
		parser.Labels(&series)
		text, _, sample := parser.Series()
		key := string(text)
		series = t.label(series)
		found[key] = series
		p.seen.series[series.Get(labels.MetricName)] = true
		if _, err := appender.Append(0, series, p.now.UnixMilli(), sample); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
}

// label gives a series the target's labels.
func (t *target) label(series labels.Labels) labels.Labels {
	builder := labels.NewBuilder(series)
	for name, given := range t.Labels {
		own := series.Get(name)
		if own != "" && t.HonorLabels {
			continue
		}
		if own != "" {
			builder.Set("exported_"+name, own)
		}
		builder.Set(name, given)
	}
	return builder.Labels()
}
