//! Tests of what is found in a text, and of what it becomes.

use super::*;

#[track_caller]
fn check(series: &str, text: &str, expected: &str, lines: &[usize]) {
    let fixed = fix(text, series.parse().unwrap());
    assert_eq!(fixed.text, expected, "{:?}", fixed.refused);
    let refused: Vec<_> = fixed.refused.iter().map(|refused| refused.line).collect();
    assert_eq!(refused, lines, "{:?}", fixed.refused);
    // What is fixed is right.
    assert_eq!(fix(expected, series.parse().unwrap()).refused, []);
}

/// As kubeadm 1.33 writes it, with comments.
const STATIC_POD: &str = r#"apiVersion: v1
kind: Pod
spec:
  containers:
  - command:
    - etcd
    # who we are
    - --name=cp-0
    - --experimental-initial-corrupt-check=true
    - --experimental-watch-progress-notify-interval=5s # often
    - --enable-v2=false # for old clients
    - --snapshot-count=10000
    image: registry.k8s.io/etcd:3.5.21-0
    name: etcd
    env:
    - name: ETCD_EXPERIMENTAL_COMPACTION_BATCH_LIMIT
      value: "100"
    - name: ETCD_PROXY_DIAL_TIMEOUT
      value: "1000"
    - name: HOME
      value: "/"
  - command:
    - kube-apiserver
    - --experimental-initial-corrupt-check=true
    volumeMounts:
    - mountPath: /etc/kubernetes/pki/etcd
  volumes: []
"#;

#[test]
fn a_manifest_is_mended_and_keeps_its_comments() {
    let fixed = STATIC_POD
        .replacen(
            "--experimental-initial-corrupt-check=true",
            "--feature-gates=InitialCorruptCheck=true",
            1,
        )
        .replace("--experimental-watch", "--watch")
        .replace("    - --enable-v2=false # for old clients\n", "    # for old clients\n")
        .replace("ETCD_EXPERIMENTAL_COMPACTION", "ETCD_COMPACTION")
        .replace("    - name: ETCD_PROXY_DIAL_TIMEOUT\n      value: \"1000\"\n", "");
    check("3.7", STATIC_POD, &fixed, &[9, 10, 11, 16, 18]);
    check("3.5", STATIC_POD, STATIC_POD, &[]);
}

#[test]
fn features_become_one_setting_and_come_back_as_flags() {
    let old = "- --experimental-initial-corrupt-check=true\n- --experimental-stop-grpc-service-on-defrag\n";
    check(
        "3.7",
        old,
        "- --feature-gates=InitialCorruptCheck=true,StopGRPCServiceOnDefrag=true\n",
        &[1, 2],
    );
    check(
        "3.7",
        &format!("{old}- --feature-gates=CompactHashCheck=true\n"),
        "- --feature-gates=CompactHashCheck=true,InitialCorruptCheck=true,StopGRPCServiceOnDefrag=true\n",
        &[1, 2],
    );
    check(
        "3.5",
        "--feature-gates=InitialCorruptCheck=true",
        "--experimental-initial-corrupt-check=true",
        &[1],
    );
}

#[test]
fn command_lines_units_and_flow_style_are_understood() {
    check(
        "3.7",
        "etcd --name x --experimental-initial-corrupt-check --proxy off --debug=true",
        "etcd --name x --feature-gates=InitialCorruptCheck=true --log-level=debug",
        &[1, 1, 1],
    );
    check(
        "3.7",
        "command: [\"etcd\", \"--enable-v2\", \"--listen-client-urls=http://[::1]:1\"]\n",
        "command: [\"etcd\", \"--listen-client-urls=http://[::1]:1\"]\n",
        &[1],
    );
    check(
        "3.7",
        "command: [etcd, \"--enable-v2\", \"--proxy=off\"]\nargs: [\"--proxy=off\", \"--enable-v2\", \"--name=x\"]\n",
        "command: [etcd]\nargs: [\"--name=x\"]\n",
        &[1, 1, 2, 2],
    );
    check(
        "3.7",
        "ExecStart=/usr/bin/etcd \\\n  --enable-v2 \\\n  --name x \\\n  --proxy=off\n",
        "ExecStart=/usr/bin/etcd \\\n  --name x \\\n \n",
        &[2, 4],
    );
    check(
        "3.7",
        "ETCD_NAME=x\nETCD_ENABLE_V2=true\nexport ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME=1h\n",
        "ETCD_NAME=x\nexport ETCD_CORRUPT_CHECK_TIME=1h\n",
        &[2, 3],
    );
    check(
        "3.7",
        r#"{"command":["/bin/sh","-c","exec etcd --name=x --enable-v2=true 1>>/log 2>&1"]}"#,
        r#"{"command":["/bin/sh","-c","exec etcd --name=x 1>>/log 2>&1"]}"#,
        &[1],
    );
    check(
        "3.7",
        "- --experimental-corrupt-check-time\n- 1h\n",
        "- --corrupt-check-time\n- 1h\n",
        &[1],
    );
    check("3.7", "- --proxy\n- off\n- --name\n- x\n", "- --name\n- x\n", &[1]);
}

#[test]
fn what_is_only_mentioned_is_no_setting() {
    let text = "# --enable-v2\n- --name=x # not --enable-v2\nread ETCD_ENABLE_V2 first\n";
    check("3.7", text, text, &[]);
    assert_eq!(fix(text, "3.7".parse().unwrap()).settings, 1);
}
