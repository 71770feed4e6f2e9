package distribute

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// maxBundle is the limit of a bundle in bytes, some hundred certificates. It is checked before anything is parsed.
const maxBundle = 256 << 10

// The lines around a certificate, and what some editors write before the first of them.
const (
	beginCertificate = "-----BEGIN CERTIFICATE-----"
	endCertificate   = "-----END CERTIFICATE-----"
	byteOrderMark    = "\xef\xbb\xbf"
)

// cleaning is a command that prints the certificates of a file and nothing else, whatever the file holds beside them. It
// reports each certificate that it cannot read.
const cleaning = `awk '{sub(/^[^-#+\/=A-Za-z0-9]+/,"")} /^-----BEGIN .*CERTIFICATE-----/{b=""} {b=b $0 "\n"} /^-----END .*CERTIFICATE-----/{print b|c; close(c); b=""}' c='openssl x509' %s > clean.pem`

// Commands that convert what is not PEM.
const (
	fromDER   = "openssl x509 -inform DER -in %s > clean.pem"
	fromUTF16 = "iconv -f UTF-16 -t UTF-8 %s > clean.pem"
)

// readBundle reads a bundle, and returns it re-encoded: its certificates in their order, and nothing else. At least one must
// be a CA's. A problem names the line, and never quotes it.
func readBundle(of settings.Secret, bundle []byte) (value []byte, authorities []validity, problem *Problem) {
	field := fmt.Sprintf("Secret %s, key %s", of.Name, of.Key)
	if len(bundle) > maxBundle {
		return nil, nil, &Problem{TooLarge, fmt.Sprintf("%s has %d bytes, and at most %d are copied: leave out what the satellites' certificates do not need", field, len(bundle), maxBundle)}
	}
	certificates, found := readCertificates(bundle)
	if found != nil {
		return nil, nil, &Problem{found.fault, field + found.text(of.Key)}
	}
	for _, certificate := range certificates {
		value = append(value, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
		if certificate.IsCA {
			authorities = append(authorities, validity{certificate.NotBefore, certificate.NotAfter})
		}
	}
	if len(authorities) == 0 {
		return nil, nil, &Problem{NoCACertificate, field + " has no CA's certificate (basicConstraints CA:TRUE): put the certificate of the satellites' CA there, not the satellites' own"}
	}
	return value, authorities, nil
}

// flaw is the first place at which a bundle is rejected.
type flaw struct {
	fault Fault
	// line counts from 1; 0 stands for the whole bundle.
	line int
	says string
	// command fixes a file of the name %s.
	command string
}

// text is what a problem says after the name of the key, which is taken for the name of the file.
func (f *flaw) text(key string) string {
	text := " " + f.says
	if f.line > 0 {
		text = fmt.Sprintf(", line %d: %s", f.line, f.says)
	}
	if f.command == "" {
		return text
	}
	return text + ": " + fmt.Sprintf(f.command, key)
}

// readCertificates reads the whole of a bundle strictly: certificates, and between them blank lines and lines that begin with #.
func readCertificates(bundle []byte) ([]*x509.Certificate, *flaw) {
	if !bytes.Contains(bundle, []byte("BEGIN ")) {
		return nil, notPEM(bundle)
	}
	if line := privateKey(bundle); line > 0 {
		return nil, &flaw{HasPrivateKey, line, "a private key, which would be copied into every labelled namespace; keep only the certificates", cleaning}
	}
	r := reader{}
	number := 0
	for line := range bytes.Lines(bundle) {
		number++
		if found := r.read(number, trimmed(line)); found != nil {
			return nil, found
		}
	}
	if r.began > 0 {
		return nil, unended(r.began)
	}
	if len(r.certificates) == 0 {
		return nil, notPEM(nil)
	}
	return r.certificates, nil
}

// trimmed is a line without what OpenSSL ignores at its end: white space, and the carriage return of DOS.
func trimmed(line []byte) []byte { return bytes.TrimRight(line, " \t\r\n") }

func notPEM(bundle []byte) *flaw {
	const says = "is not PEM: it should begin with " + beginCertificate
	switch {
	case len(bundle) == 0:
		return &flaw{NotPEM, 0, says, ""}
	case bytes.HasPrefix(bundle, []byte("\xff\xfe")), bytes.HasPrefix(bundle, []byte("\xfe\xff")):
		return &flaw{NotPEM, 0, "is UTF-16; convert it", fromUTF16}
	case bundle[0] == 0x30: // a SEQUENCE
		return &flaw{NotPEM, 0, "is DER, not PEM; convert it", fromDER}
	}
	return &flaw{NotPEM, 0, says, ""}
}

// privateKey returns the first line that names a private key, well-formed or not; 0 where none does. The base64 of a
// certificate cannot, since it has no space.
func privateKey(bundle []byte) int {
	name := []byte("PRIVATE KEY")
	if !bytes.Contains(bundle, name) {
		return 0
	}
	number := 0
	for line := range bytes.Lines(bundle) {
		number++
		if bytes.Contains(line, name) && line[0] != '#' {
			return number
		}
	}
	return 0
}

// reader reads a bundle line by line.
type reader struct {
	certificates []*x509.Certificate
	// began is the line of the certificate that is being read; 0 between certificates.
	began int
	body  []byte
}

func (r *reader) read(number int, line []byte) *flaw {
	if r.began > 0 {
		return r.inside(number, line)
	}
	switch text := string(line); {
	case text == "", text[0] == '#':
		return nil
	case text == beginCertificate:
		r.began, r.body = number, r.body[:0]
		return nil
	case number == 1 && strings.HasPrefix(text, byteOrderMark):
		return &flaw{ExtraContent, number, "a byte order mark; remove it", cleaning}
	case strings.Contains(text, "BEGIN CERTIFICATE-"), strings.Contains(text, "END CERTIFICATE-"):
		return &flaw{BadCertificate, number, "a damaged BEGIN or END line (" + beginCertificate + " starts the line, with five hyphens on each side); repair it, or remove the certificate", cleaning}
	case strings.HasPrefix(text, "-----BEGIN "):
		return &flaw{ExtraContent, number, "a block that is not a CERTIFICATE; keep only the certificates", cleaning}
	}
	return &flaw{ExtraContent, number, "text outside the certificates (only blank lines and lines that begin with # are accepted); remove it", cleaning}
}

func (r *reader) inside(number int, line []byte) *flaw {
	switch {
	case string(line) == endCertificate:
		return r.end()
	case bytes.HasPrefix(line, []byte("-----BEGIN ")):
		return unended(r.began)
	case !isBase64(line):
		return &flaw{BadCertificate, number, fmt.Sprintf("a damaged line in the certificate that begins at line %d; repair it, or remove the certificate", r.began), cleaning}
	}
	r.body = append(r.body, line...)
	return nil
}

// end reads the certificate whose last line was read. The parser's own errors quote names in the certificate.
func (r *reader) end() *flaw {
	der, err := base64.StdEncoding.Strict().DecodeString(string(r.body))
	if err != nil {
		return &flaw{BadCertificate, r.began, "a certificate with damaged base64; replace it, or remove it", cleaning}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return &flaw{BadCertificate, r.began, "not an X.509 certificate, or more than one in a block; replace it, or remove it", cleaning}
	}
	r.certificates = append(r.certificates, certificate)
	r.began = 0
	return nil
}

func unended(began int) *flaw {
	return &flaw{BadCertificate, began, "a certificate without its END line; replace it, or remove it", cleaning}
}

// isBase64 reports whether a line is not empty and has only characters of base64.
func isBase64(line []byte) bool {
	for _, c := range line {
		switch letter := c | 0x20; {
		case letter >= 'a' && letter <= 'z', c >= '0' && c <= '9', c == '+', c == '/', c == '=':
		default:
			return false
		}
	}
	return len(line) > 0
}
