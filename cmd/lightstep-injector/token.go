package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"
)

// accessTokens reads the files that are given as [PROFILE=]FILE, by profile.
func accessTokens(given []string) (map[string]string, error) {
	tokens := make(map[string]string, len(given))
	for _, value := range given {
		profile, path, named := strings.Cut(value, "=")
		if !named {
			profile, path = "", value
		}
		if _, twice := tokens[profile]; twice {
			return nil, fmt.Errorf("--access-token-file %s: profile %q has one already; give each profile's once, as PROFILE=FILE", value, profile)
		}
		token, err := readToken(path)
		if err != nil {
			return nil, fmt.Errorf("--access-token-file %s: %w", value, err)
		}
		tokens[profile] = token
	}
	return tokens, nil
}

// readToken reads a token, without the line break that editors put at a file's end. What it says of a file never holds
// any of the token.
func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if token == "" {
		return "", errors.New("the file is empty; write the token into it, and nothing else")
	}
	for i, r := range token {
		if unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar {
			return "", fmt.Errorf("the byte at offset %d is white space or a control character; leave the token alone in the file, on one line", i)
		}
	}
	return token, nil
}
