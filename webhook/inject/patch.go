package inject

// Operation is one RFC 6902 operation: an addition, or a replace of a value that is ours or that we merge into.
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}
