//! `cairn up`: everything in one process, with nothing to configure.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cairn_tests::cluster::{Outcome, cairn_binary, eventually, run};
use cairn_tests::s3_server::{Bucket, free_ports, spawn_bound_to_this_process};
use rustix::process::{Pid, Signal, kill_process};

struct Up {
    child: Child,
    output: PathBuf,
    meta: String,
}

impl Up {
    /// Starts it on `port` with its data in `directory` and waits until it says that it is up.
    async fn start(directory: &Path, port: u16, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let output = directory.join(format!("output-{}", rand::random::<u32>()));
        fs::create_dir_all(directory).unwrap();
        let out = File::create(&output).unwrap();
        let mut command = Command::new(cairn_binary().unwrap());
        command.args(["up", "--port", &port.to_string(), "--dir"]).arg(directory.join("data")).args(more);
        command.envs(environment.iter().copied()).stdin(Stdio::null());
        command.stderr(out.try_clone().unwrap()).stdout(out);
        let child = spawn_bound_to_this_process(command).unwrap();
        let mut up = Self { child, output, meta: format!("127.0.0.1:{port}") };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !up.said().contains("Ctrl-C stops it") {
            let ended = up.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "not up ({ended:?}):\n{}", up.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        up
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    async fn cairn(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut command = Command::new(cairn_binary().unwrap());
        command.args(["--connect", &self.meta]).args(arguments);
        run(command, input, Duration::from_secs(60)).await.unwrap()
    }

    async fn done(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let outcome = self.cairn(arguments, input).await;
        assert_eq!(outcome.code, 0, "{arguments:?}: {}\n{}", outcome.stderr, self.said());
        outcome.stdout
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

/// A port with room for what `cairn up` puts above it: servers every 10 ports, each with its HTTP one
/// above, and as much again for a second one that starts 50 higher. All are bound at once, so that
/// none is in use.
fn port() -> u16 {
    for _ in 0..200 {
        let base = free_ports(1).unwrap()[0];
        let wanted = (0..=6).flat_map(|n| [base + 10 * n, base + 10 * n + 1]);
        if wanted.map(|port| TcpListener::bind(("127.0.0.1", port))).collect::<Result<Vec<_>, _>>().is_ok() {
            return base;
        }
    }
    panic!("no 60 free ports in a row of 200 tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn up_survives_ctrl_c_and_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let port = port();
    let up = Up::start(directory.path(), port, &[], &[]).await;
    let said = up.said();
    for word in ["CairnFS is up", "fs put", "fs ls", "fs append", &format!("127.0.0.1:{port}")] {
        assert!(said.contains(word), "it does not say '{word}':\n{said}");
    }
    // The commands that it names are the ones that work.
    let body = vec![b'b'; 3 << 20];
    up.done(&["fs", "put", "-", "/file"], &body).await;
    assert_eq!(up.done(&["fs", "append", "/log"], b"first record\n").await, b"0\n");
    let started = Instant::now();
    assert_eq!(up.end(Signal::INT), Some(0), "Ctrl-C");
    assert!(started.elapsed() < Duration::from_secs(10), "left after {:?}", started.elapsed());

    let up = Up::start(directory.path(), port, &[], &[]).await;
    assert!(up.done(&["fs", "cat", "/file"], b"").await == body);
    assert_eq!(up.done(&["fs", "append", "/log"], b"second record\n").await, b"13\n");
    assert_eq!(up.end(Signal::KILL), None);

    let up = Up::start(directory.path(), port, &[], &[]).await;
    assert!(up.done(&["fs", "cat", "/file"], b"").await == body);
    assert_eq!(up.done(&["fs", "cat", "/log"], b"").await, b"first record\nsecond record\n");
    up.done(&["fs", "sync", "/file", "/log"], b"").await;
    assert_eq!(up.end(Signal::TERM), Some(0), "SIGTERM");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_one_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(directory.path(), port(), &[], &[]).await;
    let mut second = Command::new(cairn_binary().unwrap());
    second.args(["up", "--port", &(port() + 50).to_string(), "--dir"]).arg(directory.path().join("data"));
    let outcome = run(second, b"", Duration::from_secs(60)).await.unwrap();
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("another process"), "{}", outcome.stderr);
    up.done(&["fs", "ls", "/"], b"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_with_three_of_each_writes_through_to_s3() {
    let bucket = Bucket::shared().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let url = bucket.url("up");
    let credentials =
        [("AWS_ACCESS_KEY_ID", bucket.access_key()), ("AWS_SECRET_ACCESS_KEY", bucket.secret_key())];
    let more = ["--nodes", "3", "--s3", &url, "--s3-endpoint", bucket.endpoint()];
    let up = Up::start(directory.path(), port(), &more, &credentials).await;
    up.done(&["fs", "put", "-", "/file"], &vec![b'c'; 100_000]).await;
    up.done(&["fs", "sync", "/file"], b"").await;
    let client = bucket.client();
    let listed = || async {
        let listed = client.list_objects_v2().bucket(bucket.name()).prefix("up/").send().await.ok()?;
        (listed.contents().iter().filter_map(aws_sdk_s3::types::Object::size).sum::<i64>() > 100_000)
            .then_some(())
    };
    eventually("a pack in the bucket", Duration::from_secs(60), listed).await.unwrap();
    let status = up.done(&["status", "--json"], b"").await;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(status["servers"].as_array().unwrap().len(), 3);
}
