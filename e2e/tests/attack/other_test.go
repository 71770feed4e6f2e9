package attack

func otherRows() []row {
	return []row{
		{"1,000 namespaces and 5,000 pods", "-", scale},
		{"The largest objects of each kind, and small ones", "-", growth},
	}
}
