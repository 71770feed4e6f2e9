package main

import (
	"fmt"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// commands are the programs that a shell script calls, in its order. A name that is put together at run time is "$…".
func commands(script string) (called []string, err error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "")
	if err != nil {
		return nil, fmt.Errorf("read a script: %w", err)
	}
	syntax.Walk(file, func(node syntax.Node) bool {
		call, is := node.(*syntax.CallExpr)
		if !is || len(call.Args) == 0 {
			return true
		}
		word := call.Args[0].Lit()
		if word == "" {
			word = "$…"
		}
		called = append(called, word)
		return true
	})
	return called, nil
}
