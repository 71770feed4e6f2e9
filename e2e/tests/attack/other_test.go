package attack

func otherRows() []row {
	return []row{
		{"1,000 namespaces and 5,000 pods", "-", scale},
		{"The largest objects of each kind, and small ones", "-", growth},
		{"Owners, annotations and paths with shell commands, escapes and line feeds", "`status` prints the tenant's commands to paste; escapes and forged lines in `explain`; a GET of a path of the tenant's choice", printed},
		{"A stranger's requests for each namespace and profile", "-", answers},
		{"`delivery: annotation`: a stranger's request", "the access token in the answer", published},
		{"Text of all these attacks in the logs", "raw control characters and bidi marks; 136 MB from 47 requests", logged},
	}
}
