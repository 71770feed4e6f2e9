package clusterstate

// MostAnnotation is the number of bytes of an annotation that are kept, the mark of a cut included.
const MostAnnotation = 4 << 10

// cutMark ends an annotation that was cut. Nothing that reads an annotation accepts it: a setting that was cut is reported as
// invalid, and never read as another one.
const cutMark = ",(cut at 4096 bytes)"

// Named returns the named annotations or labels, each cut to [MostAnnotation] bytes; nil if the object has none of them.
func Named(all map[string]string, names ...string) map[string]string {
	var kept map[string]string
	for _, name := range names {
		value, ok := all[name]
		if !ok {
			continue
		}
		if kept == nil {
			kept = make(map[string]string, len(names))
		}
		kept[name] = Cut(value)
	}
	return kept
}

// Cut returns the text, or, if that has more than [MostAnnotation] bytes, a copy of its beginning that is no valid setting.
func Cut(text string) string {
	if len(text) <= MostAnnotation {
		return text
	}
	return text[:MostAnnotation-len(cutMark)] + cutMark
}
