//go:build !linux

package cluster

import "os/exec"

// dieWithParent does nothing where systems do not offer it.
func dieWithParent(*exec.Cmd) {}
