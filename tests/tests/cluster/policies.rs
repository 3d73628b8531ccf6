//! `cairn policy`, and where it is seen.

use std::time::Duration;

use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome};
use serde_json::{Value, json};

struct Setup {
    cluster: Cluster,
}

impl Setup {
    async fn start() -> Self {
        Self { cluster: Cluster::start(ClusterOptions::single()).await.unwrap() }
    }

    async fn cairn(&self, line: &str) -> Outcome {
        self.cluster.cairn(line, Duration::from_secs(60)).await.unwrap()
    }

    async fn text(&self, line: &str) -> String {
        self.cairn(line).await.expected()
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.text(line).await).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_set_inherited_shown_and_unset() {
    let setup = Setup::start().await;
    setup.text("fs mkdir -p /d/sub").await;
    setup.text("fs append /d/sub/log x").await;
    let root = setup.json("policy get / --json").await;
    assert_eq!(
        (&root["replicas"], &root["inherited"], &root["from"]),
        (&json!(1), &json!(false), &json!("/"))
    );
    let set = setup
        .json("policy set /d --ack memory --persist never --max-lag-age 10s --max-lag-bytes 64MiB --json")
        .await;
    assert_eq!((&set["ack"], &set["persist"]), (&json!("memory"), &json!("never")));
    assert_eq!((&set["max_lag_ms"], &set["max_lag_bytes"]), (&json!(10_000), &json!(64 << 20)));
    assert_eq!((&set["replicas"], &set["inherited"], &set["path"]), (&json!(1), &json!(false), &json!("/d")));
    // Only what is given changes.
    setup.text("policy set /d --persist async").await;
    let below = setup.json("policy get /d/sub --json").await;
    assert_eq!(
        (&below["persist"], &below["ack"], &below["max_lag_ms"]),
        (&json!("async"), &json!("memory"), &json!(10_000))
    );
    assert_eq!((&below["inherited"], &below["from"]), (&json!(true), &json!("/d")));
    // What one below has of its own stays, whatever is set above.
    setup.text("policy set /d/sub --max-lag-age 1m").await;
    setup.text("policy set /d --max-lag-age 5s").await;
    let shown = setup.text("policy get /d/sub/log").await;
    for says in ["inherited from /d/sub", "1m", "64MiB", "memory"] {
        assert!(shown.contains(says), "no '{says}' in:\n{shown}");
    }
    let stat = setup.json("fs stat --json /d/sub/log").await;
    assert_eq!((&stat["policy"]["max_lag_ms"], &stat["policy"]["from"]), (&json!(60_000), &json!("/d/sub")));
    let stat = setup.text("fs stat /d").await;
    assert!(stat.contains("lag up to 5s and 64MiB; set here"), "{stat}");
    let unset = setup.json("policy unset /d/sub --json").await;
    assert_eq!((&unset["max_lag_ms"], &unset["from"]), (&json!(5_000), &json!("/d")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_is_refused_and_changes_nothing() {
    let setup = Setup::start().await;
    setup.text("fs mkdir /d").await;
    setup.text("fs append /d/log x").await;
    for (line, code, says) in [
        ("policy set /d", 2, "required"),
        ("policy set /d --max-lag-age 10", 2, "a time is a number with a unit"),
        ("policy set /d --max-lag-age 1ms", 2, "100ms at least"),
        ("policy set /d --max-lag-bytes lots", 2, "bytes are a number with a unit"),
        ("policy set /d --max-lag-bytes 4KiB", 2, "1MiB at least"),
        ("policy set /d --replicas 0", 2, "1..=7"),
        ("policy set /d --min-replicas 2", 2, "more than the 1 replicas"),
        ("policy set d --replicas 1", 2, "absolute"),
        ("policy set /d/log --replicas 1", 1, "not a directory"),
        ("policy unset /d/log", 1, "not a directory"),
        ("policy unset /", 1, "policy"),
        ("policy get /none", 1, "no such file"),
    ] {
        let outcome = setup.cairn(line).await;
        assert_eq!(outcome.code, code, "cairn {line}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(says), "cairn {line}: {}", outcome.stderr);
    }
    assert_eq!(setup.json("policy get /d --json").await["inherited"], true);
}
