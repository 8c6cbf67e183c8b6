//go:build tools

// Package sources names the programs that etcdimg compiles from etcd 3.5.33.
package sources

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
