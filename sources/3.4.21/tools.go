//go:build tools
// +build tools

// Package sources names the programs that etcdimg compiles from etcd 3.4.21.
package sources

import (
	_ "go.etcd.io/etcd"
	_ "go.etcd.io/etcd/etcdctl"
)
