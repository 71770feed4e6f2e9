// Package issuer runs cert-manager beside a cluster: the program that [Build] compiles from the module in e2e/certmanager, with
// its definitions of resources, as an administrator.
//
// Of cert-manager's Go types nothing is imported here: its module would bring the harness other versions of the libraries that
// it shares with the control plane. [CertManager.Decode] has the program itself decode.
package issuer
