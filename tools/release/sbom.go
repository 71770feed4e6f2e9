package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
)

// standardLibrary is the name by which vulnerability databases know Go's own packages.
const standardLibrary = "stdlib"

// build is what Go noted of a program when it compiled it.
type build struct {
	info              *debug.BuildInfo
	version, revision string
	created           time.Time
}

func readBuild(program string) (*build, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("read what Go noted of the program: %w", err)
	}
	b := &build{info: info, version: info.Main.Version}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.revision = setting.Value
		case "vcs.time":
			if b.created, err = time.Parse(time.RFC3339, setting.Value); err != nil {
				return nil, fmt.Errorf("read the commit's time: %w", err)
			}
		}
	}
	if b.version == "" || b.revision == "" || b.created.IsZero() {
		return nil, fmt.Errorf("no version, commit or time was noted of it by Go: %+v", info.Settings)
	}
	return b, nil
}

// writeSBOM writes, beside a program, what is in it: an SPDX document of its modules as Go has noted them in it.
func (l *licences) writeSBOM(ctx context.Context, source, program string) error {
	document, err := l.describe(ctx, source, program)
	if err != nil {
		return fmt.Errorf("SBOM of %s: %w", filepath.Base(program), err)
	}
	file, err := os.Create(program + ".spdx.json")
	if err != nil {
		return err
	}
	if err := spdxjson.Write(document, file, spdxjson.Indent("  ")); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

func (l *licences) describe(ctx context.Context, source, program string) (*spdx.Document, error) {
	b, err := readBuild(program)
	if err != nil {
		return nil, err
	}
	sum, err := checksum(program)
	if err != nil {
		return nil, err
	}
	goVersion := strings.TrimPrefix(b.info.GoVersion, "go")
	folders, err := foldersOf(ctx, source, goVersion, b.info)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(program)
	d := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: "https://" + b.info.Main.Path + "/spdx/" + name + "-" + sum,
		CreationInfo: &spdx.CreationInfo{
			Created:  b.created.UTC().Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "lightstep-injector-release"}, {CreatorType: "Organization", Creator: "lightstep-injector"}},
		},
	}
	modules := append([]*debug.Module{&b.info.Main, {Path: standardLibrary, Version: goVersion}}, b.info.Deps...)
	for _, module := range modules {
		if module.Replace != nil {
			return nil, fmt.Errorf("%s is replaced, and what by is not told here", module.Path)
		}
		licence, err := l.of(module, folders[module.Path])
		if err != nil {
			return nil, err
		}
		d.Packages = append(d.Packages, packageOf(module, licence))
	}
	main := d.Packages[0]
	main.PackageFileName, main.PrimaryPackagePurpose = name, "APPLICATION"
	main.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: sum}}
	relate(d)
	return d, nil
}

// packageOf is a module in the terms of SPDX.
func packageOf(module *debug.Module, licence string) *spdx.Package {
	return &spdx.Package{
		PackageName: module.Path, PackageVersion: module.Version, PackageSPDXIdentifier: identifier(module),
		PackageDownloadLocation: noAssertion, PackageCopyrightText: noAssertion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: licence,
		PackageSupplier:           &common.Supplier{Supplier: noAssertion},
		IsFilesAnalyzedTagPresent: true,
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL,
			Locator: "pkg:golang/" + module.Path + "@" + strings.ReplaceAll(module.Version, "+", "%2B"),
		}},
	}
}

// identifier names a module with the characters that SPDX allows.
func identifier(module *debug.Module) common.ElementID {
	return common.ElementID("Package-" + regexp.MustCompile(`[^A-Za-z0-9.-]+`).ReplaceAllString(module.Path+"-"+module.Version, "-"))
}

// relate says that the document is about the first package, which holds the others.
func relate(d *spdx.Document) {
	main := d.Packages[0].PackageSPDXIdentifier
	d.Relationships = append(d.Relationships, &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(d.SPDXIdentifier)), RefB: common.MakeDocElementID("", string(main)), Relationship: common.TypeRelationshipDescribe,
	})
	for _, p := range d.Packages[1:] {
		d.Relationships = append(d.Relationships, &spdx.Relationship{
			RefA: common.MakeDocElementID("", string(main)), RefB: common.MakeDocElementID("", string(p.PackageSPDXIdentifier)), Relationship: common.TypeRelationshipDependsOn,
		})
	}
}

// checksum is a file's SHA-256, in hexadecimal.
func checksum(file string) (string, error) {
	content, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = content.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, content); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
