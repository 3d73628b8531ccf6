//! The fault proxy and the S3 servers under it do what they say: seen by a real S3 client, in front
//! of real SeaweedFS.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use rustix::process::{Pid, test_kill_process};

use cairn_tests::cluster::eventually;
use cairn_tests::fault_proxy::{Fault, FaultProxy, Link, When};
use cairn_tests::s3_server::{Bucket, S3Server, spawn_bound_to_this_process};

const SOON: Duration = Duration::from_secs(60);

/// What a client without retries sees of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Done,
    /// An S3 error, with its status and code.
    Refused(u16, String),
    /// The connection failed before an answer.
    NoAnswer,
    TimedOut,
    /// An answer that is wrong in itself.
    BadAnswer,
}

fn seen<T, E: ProvideErrorMetadata + Debug>(result: Result<T, SdkError<E>>) -> Seen {
    match result {
        Ok(_) => Seen::Done,
        Err(SdkError::ServiceError(error)) => {
            let code = error.err().code().unwrap_or_default().to_owned();
            Seen::Refused(error.raw().status().as_u16(), code)
        }
        Err(SdkError::TimeoutError(_)) => Seen::TimedOut,
        Err(SdkError::DispatchFailure(failure)) if failure.is_timeout() => Seen::TimedOut,
        Err(SdkError::DispatchFailure(_)) => Seen::NoAnswer,
        Err(_) => Seen::BadAnswer,
    }
}

/// A bucket, the proxy before it, and clients of both.
struct Setup {
    bucket: Bucket,
    proxy: FaultProxy,
    direct: Client,
    client: Client,
    /// The same with little patience: for requests that no answer is to reach.
    impatient: Client,
}

impl Setup {
    async fn start() -> Self {
        Self::before(Bucket::shared().await.unwrap()).await
    }

    async fn before(bucket: Bucket) -> Self {
        let proxy = FaultProxy::start(bucket.endpoint()).await.unwrap();
        let direct = bucket.client();
        let through_proxy = |patience| {
            let timeouts = TimeoutConfig::builder().operation_timeout(patience).build();
            Client::from_conf(bucket.client_config(&proxy.endpoint()).timeout_config(timeouts).build())
        };
        let client = through_proxy(Duration::from_secs(5));
        let impatient = through_proxy(Duration::from_secs(2));
        Self { bucket, proxy, direct, client, impatient }
    }

    async fn put(&self, key: &str, body: &[u8]) -> Seen {
        put(&self.client, &self.bucket, key, body).await
    }

    async fn put_impatiently(&self, key: &str, body: &[u8]) -> Seen {
        put(&self.impatient, &self.bucket, key, body).await
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, Seen> {
        get(&self.client, &self.bucket, key).await
    }

    /// What the server itself has, whatever the proxy's client was told.
    async fn get_directly(&self, key: &str) -> Result<Vec<u8>, Seen> {
        get(&self.direct, &self.bucket, key).await
    }

    async fn has(&self, key: &str) -> bool {
        self.get_directly(key).await.is_ok()
    }
}

async fn put(client: &Client, bucket: &Bucket, key: &str, body: &[u8]) -> Seen {
    let body = ByteStream::from(body.to_vec());
    seen(client.put_object().bucket(bucket.name()).key(key).body(body).send().await)
}

async fn get(client: &Client, bucket: &Bucket, key: &str) -> Result<Vec<u8>, Seen> {
    let answer = client.get_object().bucket(bucket.name()).key(key).send().await;
    let body = match answer {
        Ok(answer) => answer.body,
        Err(error) => return Err(seen::<(), _>(Err(error))),
    };
    // Cut short, or not what its checksum says.
    let bytes = body.collect().await.map_err(|_| Seen::BadAnswer)?;
    Ok(bytes.to_vec())
}

/// Bytes that differ from one place to the next.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8 ^ (place >> 12) as u8).collect()
}

#[tokio::test]
async fn without_rules_everything_passes_unchanged() {
    let setup = Setup::start().await;
    for length in [0, 1, 4096, 9 * 1024 * 1024 + 1] {
        let key = format!("dir/of {length} bytes+ü");
        assert_eq!(setup.put(&key, &pattern(length)).await, Seen::Done);
        assert_eq!(setup.get(&key).await.unwrap(), pattern(length), "{key}");
        assert_eq!(setup.get_directly(&key).await.unwrap(), pattern(length), "{key}");
    }
    let bucket = setup.bucket.name();
    let listing = setup.client.list_objects_v2().bucket(bucket).prefix("dir/").send().await.unwrap();
    assert_eq!(listing.key_count(), Some(4));
    let again = setup.client.put_object().bucket(bucket).key("dir/of 1 bytes+ü").if_none_match("*");
    assert_eq!(seen(again.send().await), Seen::Refused(412, "PreconditionFailed".into()));
    let head = setup.client.head_object().bucket(bucket).key("dir/of 4096 bytes+ü").send().await.unwrap();
    assert_eq!(head.content_length(), Some(4096));
    assert_eq!(setup.get("absent").await, Err(Seen::Refused(404, "NoSuchKey".into())));

    let counts = setup.proxy.counts();
    assert_eq!(counts.by_method["PUT"], 5);
    assert_eq!(counts.by_method["GET"], 6);
    assert_eq!(counts.by_method["HEAD"], 1);
    assert_eq!((counts.forwarded, counts.faulted), (12, 0));
    assert_eq!(setup.proxy.requests_matching(&When::method("GET").query_contains("list-type=2")), 1);
    setup.proxy.reset_counts();
    assert_eq!(setup.proxy.requests_with_method("PUT"), 0);
}

#[tokio::test]
async fn many_requests_at_once_pass() {
    let setup = Setup::start().await;
    let tasks: Vec<_> = (0..64)
        .map(|number| {
            let (client, bucket) = (setup.client.clone(), setup.bucket.clone());
            tokio::spawn(async move {
                let (key, body) = (format!("many/{number}"), pattern(10_000 + number));
                assert_eq!(put(&client, &bucket, &key, &body).await, Seen::Done);
                assert_eq!(get(&client, &bucket, &key).await.unwrap(), body);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(setup.proxy.counts().forwarded, 128);
}

#[tokio::test]
async fn requests_that_never_reach_the_server() {
    let setup = Setup::start().await;
    let refusals = [
        (Fault::SlowDown, Seen::Refused(503, "SlowDown".into())),
        (Fault::InternalError, Seen::Refused(500, "InternalError".into())),
        (Fault::Denied { code: "RequestTimeTooSkewed" }, Seen::Refused(403, "RequestTimeTooSkewed".into())),
        (Fault::Cut, Seen::NoAnswer),
        (Fault::BlackHole, Seen::TimedOut),
        (Fault::TruncateRequest { after_bytes: 1000 }, Seen::NoAnswer),
    ];
    for (fault, wanted) in refusals {
        let rule = setup.proxy.inject(When::method("PUT"), fault.clone());
        let body = pattern(3_000_000);
        let got = match wanted {
            Seen::TimedOut => setup.put_impatiently("refused", &body).await,
            _ => setup.put("refused", &body).await,
        };
        assert_eq!(got, wanted, "{fault:?}");
        assert!(!setup.has("refused").await, "{fault:?} reached the server");
        setup.proxy.remove(rule);
        assert_eq!(setup.put("fine", b"fine").await, Seen::Done, "after {fault:?}");
    }
    // A changed byte is caught by the checksum that the client sent along.
    setup.proxy.inject(When::method("PUT"), Fault::CorruptRequest { at_byte: 100_000 });
    assert!(matches!(setup.put("corrupt", &pattern(200_000)).await, Seen::Refused(400, _)));
    assert!(!setup.has("corrupt").await);
}

#[tokio::test]
async fn answers_that_are_lost_or_lie() {
    let setup = Setup::start().await;
    let body = pattern(300_000);

    setup.proxy.inject(When::method("PUT").path_contains("lost").times(1), Fault::LoseAnswer);
    assert_eq!(setup.put("lost", &body).await, Seen::NoAnswer);
    assert!(setup.has("lost").await, "the request should have taken place");
    assert_eq!(setup.put("lost", &body).await, Seen::Done);
    let counts = setup.proxy.counts();
    assert_eq!((counts.forwarded, counts.faulted), (2, 1));

    for after_bytes in [0, 1, 150_000, 299_999, 400_000] {
        let rule = setup.proxy.inject(When::method("GET"), Fault::TruncateAnswer { after_bytes });
        // The client gets the head and then too little, unless the cut comes after the last byte.
        let expected = if after_bytes < 300_000 { Err(Seen::BadAnswer) } else { Ok(body.clone()) };
        assert_eq!(setup.get("lost").await, expected, "cut after {after_bytes}");
        setup.proxy.remove(rule);
    }

    let rule = setup.proxy.inject(When::method("GET"), Fault::CorruptAnswer { at_byte: 123_456 });
    // A ranged GET has no checksum: only the reader's own can find the wrong byte.
    let ranged = setup.client.get_object().bucket(setup.bucket.name()).key("lost").range("bytes=0-299999");
    let wrong = ranged.send().await.unwrap().body.collect().await.unwrap().to_vec();
    let differing: Vec<usize> = (0..body.len()).filter(|place| wrong[*place] != body[*place]).collect();
    assert_eq!(differing, [123_456]);
    setup.proxy.remove(rule);
    assert_eq!(setup.get("lost").await, Ok(body));
}

#[tokio::test]
async fn latency_is_added_and_counted_rules_end() {
    let setup = Setup::start().await;
    // Longer than a busy server takes by itself.
    let latency = Duration::from_secs(3);
    setup.proxy.inject(When::method("PUT").path_contains("slow"), Fault::Latency(latency));
    setup.proxy.inject(When::method("PUT").skip(1).times(2), Fault::SlowDown);
    let started = Instant::now();
    assert_eq!(setup.put("slow", b"1").await, Seen::Done);
    assert!(started.elapsed() >= latency);
    let slow_down = Seen::Refused(503, "SlowDown".into());
    assert_eq!(setup.put("quick", b"2").await, slow_down);
    assert_eq!(setup.put("quick", b"3").await, slow_down);
    assert_eq!(setup.put("quick", b"4").await, Seen::Done);
    setup.proxy.heal();
    let started = Instant::now();
    assert_eq!(setup.put("slow", b"5").await, Seen::Done);
    assert!(started.elapsed() < latency);
}

#[tokio::test]
async fn the_link_refuses_and_falls_silent_and_comes_back() {
    let setup = Setup::start().await;
    assert_eq!(setup.put("before", b"1").await, Seen::Done);

    setup.proxy.set_link(Link::Refused);
    // The port closes in a moment; then it refuses, as often as asked, and nobody waits for an answer.
    let refuses = || async { (setup.put("refused", b"2").await == Seen::NoAnswer).then_some(()) };
    eventually("the link to refuse", SOON, refuses).await.unwrap();
    for _ in 0..3 {
        assert_eq!(setup.put("refused", b"2").await, Seen::NoAnswer);
    }
    setup.proxy.heal();
    let answers = || async { (setup.put("after", b"3").await == Seen::Done).then_some(()) };
    eventually("the link to be there again", SOON, answers).await.unwrap();

    setup.proxy.set_link(Link::Silent);
    assert_eq!(setup.put_impatiently("silent", b"4").await, Seen::TimedOut);
    assert!(!setup.has("silent").await);
    setup.proxy.heal();
    assert_eq!(setup.put("after", b"5").await, Seen::Done);
}

#[tokio::test]
async fn seaweed_keeps_its_data_over_kill_and_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = S3Server::seaweed(directory.path()).await.unwrap();
    let setup = Setup::before(server.bucket()).await;
    assert_eq!(setup.put("kept", b"kept").await, Seen::Done);
    // It acknowledges before it fsyncs, but a killed process's writes are in the page cache.
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.kill();
    assert_eq!(setup.put("gone", b"gone").await, Seen::NoAnswer);
    server.restart().await.unwrap();
    assert_eq!(setup.get("kept").await.unwrap(), b"kept");

    server.pause().await;
    assert_eq!(setup.put_impatiently("paused", b"paused").await, Seen::TimedOut);
    server.resume();
    assert_eq!(setup.put("resumed", b"resumed").await, Seen::Done);

    let missing = setup.client.put_object().bucket("no-such-bucket").key("key");
    assert_eq!(seen(missing.send().await), Seen::Refused(404, "NoSuchBucket".into()));
}

#[tokio::test]
async fn moto_serves_through_the_proxy() {
    let mut server = S3Server::moto().await.unwrap();
    let bucket = server.bucket();
    let proxy = FaultProxy::start(bucket.endpoint()).await.unwrap();
    let client = bucket.client_at(&proxy.endpoint());
    assert_eq!(put(&client, &bucket, "key", b"value").await, Seen::Done);
    assert_eq!(get(&client, &bucket, "key").await.unwrap(), b"value");
    server.restart().await.unwrap();
    assert_eq!(get(&client, &bucket, "key").await, Err(Seen::Refused(404, "NoSuchKey".into())));
}

#[tokio::test]
async fn tests_that_share_a_server_share_no_bucket() {
    let (one, other) = (Setup::start().await, Setup::start().await);
    assert_eq!(one.bucket.endpoint(), other.bucket.endpoint());
    assert_ne!(one.bucket.name(), other.bucket.name());
    assert_eq!(one.put("key", b"of one").await, Seen::Done);
    assert_eq!(other.get("key").await, Err(Seen::Refused(404, "NoSuchKey".into())));
    let listing = other.direct.list_objects_v2().bucket(other.bucket.name()).send().await.unwrap();
    assert_eq!(listing.key_count(), Some(0));
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
#[ignore = "started by the_shared_server_ends_with_the_test_process_and_leaves_nothing"]
async fn sharing_child() {
    let bucket = Bucket::shared().await.unwrap();
    println!("sharing {} {} ", bucket.endpoint(), bucket.server_directory().display());
    // Until it is killed, or whoever would have done it is gone.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn the_shared_server_ends_with_the_test_process_and_leaves_nothing() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "fault_proxy::sharing_child", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap).find_map(|line| {
        let (_, told) = line.split_once("sharing ")?;
        let (endpoint, directory) = told.trim_end().split_once(' ')?;
        Some((endpoint.strip_prefix("http://")?.to_owned(), directory.to_owned()))
    });
    let (address, directory) = told.expect("it does not say what it shares");
    let serves = || TcpStream::connect(&address).is_ok();
    assert!(serves() && Path::new(&directory).join("data").is_dir(), "{address} {directory}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while serves() || Path::new(&directory).exists() {
        assert!(Instant::now() < deadline, "{address} or {directory} outlived its process");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "started by a_server_dies_with_the_test_process"]
fn bound_child() {
    let mut sleep = Command::new("sleep");
    let child = spawn_bound_to_this_process({
        sleep.arg("1000").stdout(Stdio::null());
        sleep
    });
    println!("child {} ", child.unwrap().id());
    std::process::abort();
}

#[test]
fn a_server_dies_with_the_test_process() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "fault_proxy::bound_child", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = String::new();
    victim.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(!victim.wait().unwrap().success());
    let (_, rest) = output.split_once("child ").unwrap();
    let pid: i32 = rest.split_whitespace().next().unwrap().parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() {
        assert!(Instant::now() < deadline, "process {pid} outlived its parent");
        std::thread::sleep(Duration::from_millis(10));
    }
}
