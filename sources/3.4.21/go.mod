module etcdimg/sources/3.4.21

go 1.16

require go.etcd.io/etcd v0.5.0-alpha.5.0.20220915004622-85b640cee793
