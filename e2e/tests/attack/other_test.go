package attack

func otherRows() []row {
	return []row{
		{"The largest objects of each kind, and small ones", "-", growth},
		{"A stranger's requests for each namespace and profile", "-", answers},
		{"`delivery: annotation`: a stranger's request", "the access token in the answer", published},
		{"Text of all these attacks in the logs", "raw control characters and bidi marks; 136 MB from 47 requests", logged},
		{"1,000 namespaces and 5,000 pods", "-", scale}, // the last: what it makes is in the way of others
	}
}
