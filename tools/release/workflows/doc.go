// Command workflows checks the repository's GitHub workflows, and keeps what they and the Dockerfile pin.
//
//	workflows -root ../..            check without a network
//	workflows -root ../.. -online    also compare the pins with GitHub and the registry
//	workflows -root ../.. -update    write the pins that GitHub and the registry have for the versions in the files
//
// A file per part:
//
//	main.go        the command
//	repository.go  the workflows, the Dockerfile and what they pin
//	pins.go        the table of pins, .github/pins.txt, and its comparison with the files
//	online.go      the commit of an action's version, the digest of an image's tag
//	rules.go       what a workflow and a job must and must not have
//	scripts.go     what a shell script in a workflow runs
//
// Without a network, nobody can know which commits exist. The check compares each pin with the table, where a commit is
// written once for each version, by -update. A wrong commit in a workflow, or in the table, is found. A commit that is wrong
// in both is found by -online, which continuous integration runs before each release.
package main
