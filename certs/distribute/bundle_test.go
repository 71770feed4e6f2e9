package distribute

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// canary is in each bad bundle where its content could be quoted from.
const canary = "canaryCanaryCANARY"

// material is what the bundles below are made of.
type material struct{ good, next, key, encrypted []byte }

func newMaterial(t testing.TB) material {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return material{ca(t, -day, 365*day), ca(t, -day, 200*day), block("PRIVATE KEY", string(der)), block("ENCRYPTED PRIVATE KEY", canary)}
}

// replaced replaces the first occurrence of a text, which must be there.
func replaced(t testing.TB, text []byte, before, after string) []byte {
	t.Helper()
	if !bytes.Contains(text, []byte(before)) {
		t.Fatalf("there is no %q", before)
	}
	return bytes.Replace(text, []byte(before), []byte(after), 1)
}

// lines joins a range of a text's lines, the first of which is 1, each with something before and after it.
func lines(text []byte, from, to int, before, after string) []byte {
	var all []string
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if i+1 >= from && (to == 0 || i < to) {
			all = append(all, before+line+after+"\n")
		}
	}
	return []byte(strings.Join(all, ""))
}

// bundle is a row of the table of bundles.
type bundle struct {
	name  string
	value []byte
	// fault is empty where the bundle is accepted.
	fault Fault
	line  int
	// cleaned is how many certificates the command in the problem leaves; -1 where there is no command.
	cleaned int
}

// accepted are bundles that are copied, each with both certificates.
func (m *material) accepted(t testing.TB) []bundle {
	t.Helper()
	both := join(m.good, m.next)
	return []bundle{
		{name: "two", value: both},
		{name: "comments between blocks", value: join([]byte("# -----BEGIN PRIVATE KEY-----\n"), m.good, []byte("#"+canary+"\n\n \t\n"), m.next, []byte("# \x00\xff"))},
		{name: "line ends of DOS", value: lines(both, 1, 0, "", "\r")},
		{name: "white space at the end of lines", value: lines(both, 1, 0, "", " \t")},
		{name: "no line end at the end", value: bytes.TrimSuffix(both, []byte("\n"))},
		{name: "all base64 in one line", value: join(oneLine(m.good), m.next)},
	}
}

// oneLine is a certificate without line ends in its base64.
func oneLine(certificate []byte) []byte {
	body, _ := pem.Decode(certificate)
	return []byte(beginCertificate + "\n" + base64.StdEncoding.EncodeToString(body.Bytes) + "\n" + endCertificate + "\n")
}

// rejected are bundles that are not. A good certificate of ten lines, and sometimes another one, is in each.
func (m *material) rejected(t testing.TB) []bundle {
	t.Helper()
	good, next, key := m.good, m.next, m.key
	n := bytes.Count(good, []byte("\n"))
	der, _ := pem.Decode(good)
	return []bundle{
		{"text before", join([]byte("subject="+canary+"\n"), good), ExtraContent, 1, 1},
		{"text between", join(good, []byte(canary+"\n"), next), ExtraContent, n + 1, 2},
		{"text after", join(good, []byte("\n"+canary)), ExtraContent, n + 2, 1},
		{"text in the line of END", join(bytes.TrimSuffix(good, []byte("\n")), []byte(canary+"\n"), next), BadCertificate, n, 1},
		{"text in the line of BEGIN", join(good, replaced(t, next, beginCertificate, beginCertificate+canary)), BadCertificate, n + 1, 1},
		{"base64 without a block", join(good, lines(key, 2, 3, "", "")), ExtraContent, n + 1, 1},
		{"a comment that does not begin the line", join(good, []byte(" # "+canary+"\n")), ExtraContent, n + 1, 1},
		{"NUL", join(good, []byte("\x00\n")), ExtraContent, n + 1, 1},
		{"another block", join(good, block("X509 CRL", canary)), ExtraContent, n + 1, 1},
		{"parameters", join(block("EC PARAMETERS", canary), good), ExtraContent, 1, 1},
		{"a public key", join(good, block("PUBLIC KEY", canary)), ExtraContent, n + 1, 1},
		{"the label X509 CERTIFICATE", bytes.ReplaceAll(good, []byte("CERTIFICATE"), []byte("X509 CERTIFICATE")), ExtraContent, 1, 1},
		{"the label TRUSTED CERTIFICATE", bytes.ReplaceAll(good, []byte("CERTIFICATE"), []byte("TRUSTED CERTIFICATE")), ExtraContent, 1, 1},
		{"a byte order mark", join([]byte(byteOrderMark), good), ExtraContent, 1, 1},
		{"a byte order mark between", join(good, []byte(byteOrderMark), next), BadCertificate, n + 1, 2},

		{"a key", join(good, key, next), HasPrivateKey, n + 1, 2},
		{"a key and text before it", join([]byte(canary+"\n"), good, key), HasPrivateKey, n + 2, 1},
		{"an encrypted key", join(good, m.encrypted), HasPrivateKey, n + 1, 1},
		{"an old encrypted key", join([]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), good), HasPrivateKey, 1, 1},
		{"a key of OpenSSH", join(good, block("OPENSSH PRIVATE KEY", canary)), HasPrivateKey, n + 1, 1},
		{"a key of PGP", join(good, []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n"+canary+"\n-----END PGP PRIVATE KEY BLOCK-----\n")), HasPrivateKey, n + 1, 1},
		{"a key without its END line", join(good, lines(key, 1, bytes.Count(key, []byte("\n"))-1, "", "")), HasPrivateKey, n + 1, 1},
		{"a key without its BEGIN line", join(good, lines(key, 2, 0, "", "")), HasPrivateKey, n + bytes.Count(key, []byte("\n")) - 1, 1},
		{"a key whose END line is one dash short", join(replaced(t, key, "-----END", "----END"), good), HasPrivateKey, 1, 1},
		{"a key whose BEGIN line is one dash short", join(replaced(t, key, "-----BEGIN", "----BEGIN"), good), HasPrivateKey, 1, 1},
		{"a key, indented", join(good, lines(key, 1, 0, "  ", "")), HasPrivateKey, n + 1, 1},
		{"a key with line ends of DOS", join(good, lines(key, 1, 0, "", "\r")), HasPrivateKey, n + 1, 1},
		{"a key in a certificate", join(lines(good, 1, 3, "", ""), key, next), HasPrivateKey, 4, 1},

		{"a cut-off certificate after a good one", join(good, lines(next, 1, 4, "", "")), BadCertificate, n + 1, 1},
		{"a cut-off certificate before a good one", join(lines(next, 1, 4, "", ""), good), BadCertificate, 1, 1},
		{"no BEGIN line", join(good, lines(next, 2, 0, "", "")), ExtraContent, n + 1, 1},
		{"BEGIN one dash short", join(good, replaced(t, next, "-----BEGIN", "----BEGIN")), BadCertificate, n + 1, 1},
		{"BEGIN one dash short at its end", join(good, replaced(t, next, beginCertificate, "-----BEGIN CERTIFICATE----")), BadCertificate, n + 1, 1},
		{"BEGIN one dash too long", join(good, replaced(t, next, "-----BEGIN", "------BEGIN")), BadCertificate, n + 1, 1},
		{"END one dash short", join(replaced(t, good, "-----END", "----END"), next), BadCertificate, n, 1},
		{"indented", join(good, lines(next, 1, 0, "  ", "")), BadCertificate, n + 1, 2},
		{"only its base64 is indented", join(lines(good, 1, 1, "", ""), lines(good, 2, n-1, "\t", ""), lines(good, n, n, "", ""), next), BadCertificate, 2, 2},
		{"a blank line in a block", join(lines(good, 1, 3, "", ""), []byte("\n"), lines(good, 4, 0, "", ""), next), BadCertificate, 4, 1},
		{"a comment in a block", join(lines(good, 1, 3, "", ""), []byte("# "+canary+"\n"), lines(good, 4, 0, "", ""), next), BadCertificate, 4, 1},
		{"a header in a block", join(lines(good, 1, 1, "", ""), []byte("Note: "+canary+"\n\n"), lines(good, 2, 0, "", ""), next), BadCertificate, 2, 1},
		{"damaged base64", join(lines(good, 1, 2, "", ""), []byte("!"+canary+"\n"), lines(good, 4, 0, "", ""), next), BadCertificate, 3, 1},
		{"a line of base64 too few", join(lines(good, 1, 2, "", ""), lines(good, 4, 0, "", ""), next), BadCertificate, 1, 1},
		{"a character of base64 too few", join(lines(good, 1, 1, "", ""), []byte("MII\n"), lines(good, 3, 0, "", ""), next), BadCertificate, 1, 1},
		{"bits after the end of base64", join([]byte(beginCertificate+"\nAB==\n"+endCertificate+"\n"), next), BadCertificate, 1, 1},
		{"bytes after the certificate", join(block("CERTIFICATE", string(der.Bytes)+canary), next), BadCertificate, 1, 2},
		{"two certificates in a block", join(block("CERTIFICATE", string(der.Bytes)+string(der.Bytes)), next), BadCertificate, 1, 2},
		{"an empty block", join(block("CERTIFICATE", ""), next), BadCertificate, 1, 1},
		{"no certificate", join(good, block("CERTIFICATE", canary)), BadCertificate, n + 1, 1},
		{"a name that cannot be read", join(certificateWithName(t), good), BadCertificate, 1, 2},
		{"line ends of old Macs", bytes.ReplaceAll(good, []byte("\n"), []byte("\r")), BadCertificate, 1, 0},

		{"nothing", nil, NotPEM, 0, -1},
		{"white space", []byte(" \r\n\n"), NotPEM, 0, -1},
		{"comments", []byte("# BEGIN \n"), NotPEM, 0, -1},
		{"words", []byte(canary), NotPEM, 0, -1},
		{"DER", der.Bytes, NotPEM, 0, 1},
		{"UTF-16", inUTF16(good), NotPEM, 0, 1},
	}
}

// certificateWithName makes a certificate with a name of which the parser's error has every byte.
func certificateWithName(t testing.TB) []byte {
	t.Helper()
	uri, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("http://" + canary + "%zz/")}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: at, NotAfter: at.Add(day), IsCA: true, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: uri}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParseCertificate(der); err == nil || !strings.Contains(err.Error(), canary) {
		t.Fatalf("the parser's error does not quote the name: %v", err)
	}
	return block("CERTIFICATE", string(der))
}

func inUTF16(text []byte) []byte {
	encoded := []byte("\xff\xfe")
	for _, unit := range utf16.Encode([]rune(string(text))) {
		encoded = append(encoded, byte(unit), byte(unit>>8))
	}
	return encoded
}

func TestAcceptedBundles(t *testing.T) {
	m := newMaterial(t)
	for _, c := range m.accepted(t) {
		t.Run(c.name, func(t *testing.T) {
			source := read(c.value)
			expectProblem(t, source, "", "")
			if want := join(m.good, m.next); !bytes.Equal(source.value, want) {
				t.Errorf("it is copied as\n%s", source.value)
			}
		})
	}
}

// TestCleanBundleKeepsItsHash: copies of such a bundle that an earlier version has made, which copied every byte, are current.
func TestCleanBundleKeepsItsHash(t *testing.T) {
	m := newMaterial(t)
	value := join(m.good, m.next, m.good)
	if source := read(value); !bytes.Equal(source.value, value) || source.Hash != hashOf("cacert.pem", value) {
		t.Errorf("it is copied as\n%s", source.value)
	}
}

func TestRejectedBundles(t *testing.T) {
	m := newMaterial(t)
	for _, c := range m.rejected(t) {
		t.Run(c.name, func(t *testing.T) {
			source := read(c.value)
			says := "key cacert.pem "
			if c.line > 0 {
				says = fmt.Sprintf("key cacert.pem, line %d: ", c.line)
			}
			expectProblem(t, source, c.fault, says)
			if source.value != nil || len(source.authorities) > 0 {
				t.Error("something of it is kept")
			}
			quotesNothing(t, source.lasting.Says, c.value)
			if hasCommand := strings.Contains(source.lasting.Says, " > clean.pem"); hasCommand != (c.cleaned >= 0) {
				t.Errorf("the command is missing, or too much: %s", source.lasting.Says)
			}
		})
	}
}

// quotesNothing sees that no eight bytes of a bundle's lines are in a text, those with the borders of blocks aside, and the
// canary nowhere.
func quotesNothing(t *testing.T, text string, bundle []byte) {
	t.Helper()
	const window = 8
	if strings.Contains(text, canary[:window]) {
		t.Errorf("the canary is quoted: %s", text)
	}
	for line := range bytes.Lines(bundle) {
		for ; len(line) >= window && !bytes.Contains(line, []byte("----")); line = line[1:] {
			if strings.Contains(text, string(line[:window])) {
				t.Errorf("%q is quoted: %s", line[:window], text)
			}
		}
	}
}

// TestCleaningCommands runs the commands that problems name, and reads what they print.
func TestCleaningCommands(t *testing.T) {
	for _, tool := range []string{"sh", "awk", "openssl", "iconv"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("not run: %v", err)
		}
	}
	m := newMaterial(t)
	for _, c := range m.rejected(t) {
		if c.cleaned < 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			says := read(c.value).lasting.Says
			at := strings.LastIndex(says, ": ") + 2
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "cacert.pem"), c.value, 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), "sh", "-c", says[at:])
			command.Dir = dir
			said, _ := command.CombinedOutput() // openssl fails at each certificate that it cannot read
			cleaned, err := os.ReadFile(filepath.Join(dir, "clean.pem"))
			if err != nil {
				t.Fatalf("%v: %s\n%s", err, says[at:], said)
			}
			certificates, found := readCertificates(cleaned)
			if c.name == "a name that cannot be read" && found != nil {
				return // OpenSSL may well read it
			}
			if len(certificates) != c.cleaned {
				t.Errorf("%d certificates are left, want %d: %+v: %s\n%s", len(certificates), c.cleaned, found, says[at:], said)
			}
		})
	}
}

// TestCommandInDocs: the page that Events lead to has the same command.
func TestCommandInDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/secrets.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{cleaning, fromDER, fromUTF16} {
		if want := fmt.Sprintf(command, "cacert.pem"); !strings.Contains(string(page), want) {
			t.Errorf("docs/secrets.md has no %s", want)
		}
	}
}

// TestOpenSSLAgrees has OpenSSL read each bundle as it is copied: it must find every certificate, and nothing else.
func TestOpenSSLAgrees(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skipf("not run: %v", err)
	}
	m := newMaterial(t)
	for _, c := range m.accepted(t) {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "copy.pem")
			if err := os.WriteFile(file, read(c.value).value, 0o600); err != nil {
				t.Fatal(err)
			}
			said, err := exec.CommandContext(t.Context(), "openssl", "storeutl", "-noout", file).CombinedOutput()
			if want := "0: Certificate\n1: Certificate\nTotal found: 2\n"; err != nil || string(said) != want {
				t.Errorf("%v:\n%s", err, said)
			}
		})
	}
}

// FuzzBundle: what is accepted has the certificates that another reader of PEM finds, and nothing else is copied.
func FuzzBundle(f *testing.F) {
	m := newMaterial(f)
	for _, c := range append(m.accepted(f), m.rejected(f)...) {
		f.Add(c.value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		source := read(value)
		if source.lasting != nil {
			if source.value != nil || len(source.lasting.Says) > maxText {
				t.Errorf("%d bytes are kept: %s", len(source.value), source.lasting.Says)
			}
			return
		}
		var want []byte
		for rest := value; ; {
			var found *pem.Block
			if found, rest = pem.Decode(rest); found == nil {
				break
			}
			if _, err := x509.ParseCertificate(found.Bytes); err != nil || found.Type != "CERTIFICATE" || len(found.Headers) > 0 {
				t.Fatalf("this is accepted: %s: %v", found.Type, err)
			}
			want = append(want, pem.EncodeToMemory(&pem.Block{Type: found.Type, Bytes: found.Bytes})...)
		}
		if !bytes.Equal(source.value, want) {
			t.Errorf("it is copied as\n%s\nand not as\n%s", source.value, want)
		}
		if again := read(source.value); again.lasting != nil || !bytes.Equal(again.value, want) {
			t.Errorf("a copy is not accepted itself: %+v", again.lasting)
		}
	})
}

// craftedText are files of a size in which the borders of blocks are hard to find.
func craftedText(size int) map[string][]byte {
	fill := func(text string) []byte { return bytes.Repeat([]byte(text), size/len(text)) }
	begin := []byte(beginCertificate + "\n")
	return map[string][]byte{
		"begins":           fill(beginCertificate + "\n"),
		"begins, one line": fill(beginCertificate),
		"ends":             fill(endCertificate + "\n"),
		"empty blocks":     fill(beginCertificate + "\n" + endCertificate + "\n"),
		"other blocks":     fill("-----BEGIN X-----\n-----END X-----\n"),
		"headers":          join(begin, fill("a: b\n")),
		"dashes":           fill("-"),
		"line feeds":       join(fill("\n"), begin),
		"white space":      join(fill(" "), begin),
		"comments":         join(fill("#\n"), begin),
		"base64":           join(begin, fill("A")),
		"short lines":      join(begin, fill("A\n")),
		"keys":             join(begin, fill("PRIVATE KE\n")),
	}
}

// craftedCertificates are certificates of about a size, each of as many small things as fit.
func craftedCertificates(t testing.TB, size int) map[string][]byte {
	t.Helper()
	names, uris, kinds := make([]string, size/10), make([]*url.URL, size/24), make([]asn1.ObjectIdentifier, size/12)
	for i := range names {
		names[i] = fmt.Sprintf("%x", i)
	}
	for i := range uris {
		uris[i] = &url.URL{Scheme: "a", Host: fmt.Sprintf("%x", i)}
	}
	for i := range kinds {
		kinds[i] = asn1.ObjectIdentifier{1, 3, 9, i}
	}
	authority := func(change func(*x509.Certificate)) []byte {
		template := &x509.Certificate{NotBefore: at.Add(-day), NotAfter: at.Add(day), IsCA: true, BasicConstraintsValid: true}
		change(template)
		return certificate(t, template)
	}
	return map[string][]byte{
		"DNS names":   authority(func(c *x509.Certificate) { c.DNSNames = names }),
		"URIs":        authority(func(c *x509.Certificate) { c.URIs = uris }),
		"constraints": authority(func(c *x509.Certificate) { c.PermittedDNSDomains = names[:size/16] }),
		"usages":      authority(func(c *x509.Certificate) { c.UnknownExtKeyUsage = kinds }),
		"extensions": authority(func(c *x509.Certificate) {
			for _, kind := range kinds[:size/24] {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: kind})
			}
		}),
		"attributes of the name": authority(func(c *x509.Certificate) {
			for _, kind := range kinds[:size/64] {
				c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: kind, Value: "x"})
			}
		}),
	}
}

// TestCraftedPEM compares with 1 MiB of certificates, read without the limit of size: 1 MiB of crafted text, without that limit,
// too, and crafted certificates as large as the limit allows.
func TestCraftedPEM(t *testing.T) {
	const size = 1 << 20
	one := ca(t, -day, day)
	valid := cost(bytes.Repeat(one, size/len(one)))
	for name, value := range craftedText(size) {
		t.Run(name, func(t *testing.T) { costsLittle(t, value, valid) })
	}
	for name, value := range craftedCertificates(t, maxBundle) {
		t.Run(name, func(t *testing.T) {
			if len(value) > maxBundle || len(value) < maxBundle/2 {
				t.Fatalf("%d bytes", len(value))
			}
			if _, found := readCertificates(value); found != nil {
				t.Fatalf("it is not read to its end: %+v", found)
			}
			costsLittle(t, value, valid)
		})
	}
}

func costsLittle(t *testing.T, value []byte, valid time.Duration) {
	t.Helper()
	const most = 5
	took := cost(value)
	t.Logf("%d KiB: %s, %.2f times what 1 MiB of certificates takes", len(value)>>10, took, float64(took)/float64(valid))
	if took > most*valid {
		t.Errorf("it costs %s, and 1 MiB of certificates %s", took, valid)
	}
}

// cost is the least that reading takes; other processes only add to it.
func cost(value []byte) time.Duration {
	least := time.Hour
	for range 5 {
		start := time.Now()
		_, _ = readCertificates(value)
		least = min(least, time.Since(start))
	}
	return least
}
