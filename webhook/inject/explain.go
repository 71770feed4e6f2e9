package inject

import "github.com/lightstep-injector/lightstep-injector/webhook/istio"

// Explanation is a result with the rules that led to it, in the order in which they were asked.
type Explanation struct {
	Rules  []RuleResult
	Result Result
}

// RuleResult is one rule, and whether it applied. The first that applies decides.
type RuleResult struct {
	Reason  Reason
	Applies bool
	Says    string
}

// Explain is Run, told rule by rule. It asks the same rules.
func Explain(req *Request, snap *Snapshot) Explanation {
	var e Explanation
	for _, rule := range rules() {
		applies := rule.applies(req, snap)
		e.Rules = append(e.Rules, RuleResult{rule.reason, applies, rule.says})
		if applies {
			e.Result = Run(req, snap)
			return e
		}
	}
	e.Result = Run(req, snap)
	decision := Decide(req, snap)
	if !decision.Inject {
		e.Rules = append(e.Rules, RuleResult{decision.Reason, true, decision.Warnings[len(decision.Warnings)-1].Message})
		return e
	}
	e.Rules = append(e.Rules,
		RuleResult{decision.Reason, true, "profile " + decision.Settings.Profile + "; " + decision.Sidecar.Why + decision.mesh()},
	)
	if e.Result.Reason != decision.Reason {
		e.Rules = append(e.Rules, RuleResult{e.Result.Reason, true, finalWords(e.Result.Reason)})
	}
	return e
}

// mesh says what is known of the pod's Istio.
func (d *Decision) mesh() string {
	if d.Sidecar.State == istio.Absent {
		return ""
	}
	version := "of unknown version"
	if d.Istio.Known {
		version = d.Istio.Version
	}
	if r := d.Member.Revision; r != nil {
		return "; Istio " + version + ", revision " + r.Name + " in " + r.Namespace
	}
	return "; Istio " + version
}

func finalWords(r Reason) string {
	switch r {
	case Conflict:
		return "what the pod already has stands in the way of all of it"
	case NothingToDo:
		return "the settings ask for nothing that this pod could take"
	default:
		return "the pod has all of it already"
	}
}
