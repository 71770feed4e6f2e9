package settings

// Settings is a configuration in force: parsed, defaulted and validated. It is immutable.
type Settings struct{}

// Resolved is one profile with a namespace's and a pod's overrides applied.
type Resolved struct{}

// Parse reads a configuration file. Its error lists every problem: the field, the value, and what to write instead.
func Parse(data []byte) (*Settings, error) { panic("being written") }
