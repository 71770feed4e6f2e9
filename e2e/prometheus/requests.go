package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
)

// handler answers requests, one at a time.
type handler struct {
	dir string

	mu         sync.Mutex
	prometheus *prometheus // of the latest start
	data       string      // its folder
	seen       seen
}

// seen is what was scraped in all the starts.
type seen struct{ families, series map[string]bool }

func (h *handler) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	handle(h, mux, "POST /start", h.start)
	handle(h, mux, "POST /advance", h.advance)
	handle(h, mux, "POST /query", h.query)
	handle(h, mux, "POST /names", h.names)
	handle(h, mux, "POST /scraped", h.scraped)
	return mux
}

// handle answers JSON with JSON.
func handle[Request, Answer any](h *handler, mux *http.ServeMux, pattern string, do func(*http.Request, *Request) (Answer, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		request := new(Request)
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		err := decoder.Decode(request)
		var answer Answer
		if err == nil {
			answer, err = do(r, request)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		_ = json.NewEncoder(w).Encode(answer) // who no longer listens is told nothing
	})
}

// startRequest begins anew, with an empty storage and these rules.
type startRequest struct {
	// At is the virtual time that it is then.
	At time.Time `json:"at"`
	// Rules is a file of rules, as Prometheus reads it.
	Rules json.RawMessage `json:"rules"`
}

type nothing struct{}

func (h *handler) start(_ *http.Request, request *startRequest) (_ nothing, err error) {
	h.close()
	if h.data, err = os.MkdirTemp(h.dir, "data-"); err != nil {
		return nothing{}, err
	}
	h.prometheus, err = newPrometheus(h.data, request.At, request.Rules, h.seen)
	return nothing{}, err
}

// close ends the latest start's.
func (h *handler) close() {
	if h.prometheus != nil {
		_ = h.prometheus.close() // nobody reads it again
	}
	h.prometheus = nil
	_ = os.RemoveAll(h.data)
}

// advanceRequest lets virtual time pass, with a scrape and a look at the rules at every step, the last at its end.
type advanceRequest struct {
	Steps   int      `json:"steps"`
	Step    duration `json:"step"`
	Targets []target `json:"targets"`
}

// duration is written as Go does, such as 30s.
type duration time.Duration

// UnmarshalText reads it.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// alert is one that is pending or firing.
type alert struct {
	Name        string            `json:"name"`
	State       string            `json:"state"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Value       float64           `json:"value"`
}

func (h *handler) advance(r *http.Request, request *advanceRequest) ([]alert, error) {
	if h.prometheus == nil {
		return nil, errors.New("it has not been started")
	}
	for range request.Steps {
		if err := h.prometheus.step(r.Context(), time.Duration(request.Step), request.Targets); err != nil {
			return nil, err
		}
	}
	list := []alert{}
	for _, active := range h.prometheus.alerts() {
		list = append(list, shown(active))
	}
	return list, nil
}

func shown(a *rules.Alert) alert {
	return alert{
		Name: a.Labels.Get(labels.AlertName), State: a.State.String(), Labels: a.Labels.Map(), Annotations: a.Annotations.Map(), Value: a.Value,
	}
}

// queryRequest asks for the value of an expression, now.
type queryRequest struct {
	Expr string `json:"expr"`
}

// query answers with the number of series.
func (h *handler) query(r *http.Request, request *queryRequest) (int, error) {
	if h.prometheus == nil {
		return 0, errors.New("it has not been started")
	}
	vector, err := h.prometheus.query(r.Context(), request.Expr, h.prometheus.now)
	return len(vector), err
}

// names answers with the metrics that an expression names.
func (h *handler) names(_ *http.Request, request *queryRequest) ([]string, error) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(request.Expr)
	if err != nil {
		return nil, err
	}
	var names []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			if selector.Name == "" {
				err = fmt.Errorf("%s names no metric", selector)
			}
			names = append(names, selector.Name)
		}
		return nil
	})
	return names, err
}

// scrapedAnswer has the names of all that was ever scraped: of families, as a type is given to them, and of series.
type scrapedAnswer struct {
	Families []string `json:"families"`
	Series   []string `json:"series"`
}

func (h *handler) scraped(*http.Request, *nothing) (scrapedAnswer, error) {
	return scrapedAnswer{slices.Sorted(maps.Keys(h.seen.families)), slices.Sorted(maps.Keys(h.seen.series))}, nil
}
