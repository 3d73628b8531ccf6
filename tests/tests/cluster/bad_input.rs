//! Bad input: what was wrong is said, with the exit code for it; nothing is changed, nothing lost.
//! docs/ERRORS.md names the tests of this file and of `bad_storage.rs`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{HelloRequest, Mkdir, StatRequest};
use cairn_sdk::types::FsError;
use cairn_sdk::{Cause, ConnectOptions, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome, Wire, cairn_binary, run, target};
use cairn_tests::s3_server::free_ports;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn cairn(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(cairn_binary().unwrap());
    command.args(arguments);
    run(command, b"", Duration::from_secs(60)).await.unwrap()
}

/// A server that must refuse to start: exit code 2, each of `words` said, no panic.
async fn refuses(arguments: &[&str], words: &[&str]) {
    let outcome = cairn(arguments).await;
    assert_eq!(outcome.code, 2, "{arguments:?}: {}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "{arguments:?}: no '{word}' in: {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

fn config(directory: &Path, text: &str) -> String {
    let path = directory.join("config.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Every file below a directory with its bytes, `LOCK` aside.
fn snapshot(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.file_name().unwrap() != "LOCK" {
                found.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

async fn single() -> Cluster {
    Cluster::start(ClusterOptions { segment_mib: 4, capacity_mib: 64, ..ClusterOptions::single() })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_flag() {
    refuses(&["meta", "--lisen", "127.0.0.1:1"], &["--lisen", "--listen"]).await;
    refuses(&["fs", "ls", "--long-long", "/"], &["--long-long"]).await;
    refuses(&["fs", "mkdir", "-m", "999", "/x"], &["octal"]).await;
    refuses(&["up", "--nodes", "2"], &["1 or 3"]).await;
    refuses(&["nonsense"], &["nonsense"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("d");
    let head = format!("dir = {dir:?}\n");
    for (role, text, words) in [
        ("meta", "lissten = \"127.0.0.1:1\"", &["lissten"][..]),
        ("meta", "id = \"one\"", &["id", "config.toml"][..]),
        ("meta", "id = 0", &["id", "starts at 1"]),
        ("meta", "[policy]\nreplicas = 0", &["policy"]),
        ("meta", "[policy]\nreplikas = 3", &["replikas"]),
        ("meta", "peers = [\"127.0.0.1:1\"]", &["peers", "127.0.0.1:1"]),
        ("meta", "peers = [\"2@127.0.0.1:1\"]", &["peers", "not among them"]),
        ("meta", "listen = \"nowhere\"", &["listen", "nowhere"]),
        ("meta", "heartbeat_ms = 5000", &["heartbeat_ms"]),
        ("meta", "= broken", &["TOML", "config.toml"]),
        ("data", "segment_mib = 1", &["segment_mib"]),
        ("data", "segment_mb = 64", &["segment_mb"]),
        ("data", "meta = []", &["meta"]),
        ("data", "cluster_id = \"xyz\"", &["cluster_id", "32"]),
        ("data", "[understore]\nurl = \"ftp://x/y\"", &["understore.url", "ftp://x/y"]),
        ("data", "[understore]\nbucket = \"x\"", &["bucket"]),
    ] {
        let path = config(directory.path(), &format!("{head}{text}\n"));
        refuses(&[role, "--config", &path], words).await;
        assert!(!dir.exists(), "{role} with {text:?} made its directory");
    }
    refuses(&["meta", "--config", "/nonexistent.toml"], &["/nonexistent.toml"]).await;
    refuses(&["data", "--cluster-id", "zz", "fs", "ls"], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_address_open_to_others_without_insecure() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("d");
    let path = dir.to_str().unwrap();
    for role in ["meta", "data"] {
        let port = free_ports(1).unwrap()[0];
        for address in [format!("0.0.0.0:{port}"), format!("[::]:{port}")] {
            let outcome = cairn(&[role, "--dir", path, "--listen", &address]).await;
            assert_eq!(outcome.code, 2, "{role} {address}: {}", outcome.stderr);
            for word in ["listen", "insecure", "TLS"] {
                assert!(outcome.stderr.contains(word), "{role}: {}", outcome.stderr);
            }
        }
    }
    assert!(!dir.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("m");
    refuses(
        &["meta", "--dir", dir.to_str().unwrap(), "--listen", &address, "--http", ""],
        &[&address, "in use"],
    )
    .await;
    let free = format!("127.0.0.1:{}", free_ports(1).unwrap()[0]);
    let dir = directory.path().join("h");
    refuses(
        &["meta", "--dir", dir.to_str().unwrap(), "--listen", &free, "--http", &address],
        &[&address, "in use"],
    )
    .await;
    let cluster = single().await;
    let meta = cluster.metas[0].address();
    let dir = directory.path().join("d");
    let data = ["data", "--dir", dir.to_str().unwrap(), "--meta", meta, "--http", "", "--listen", &address];
    refuses(&data, &[&address, "in use"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_process_on_one_directory() {
    let cluster = single().await;
    let ports = free_ports(1).unwrap();
    let free = format!("127.0.0.1:{}", ports[0]);
    for server in cluster.metas.iter().chain(&cluster.datas) {
        let role = server.name().trim_end_matches(char::is_numeric);
        let path = server.config_path();
        let arguments = [role, "--config", path.to_str().unwrap(), "--listen", &free, "--http", ""];
        refuses(&arguments, &["another process", server.directory().to_str().unwrap()]).await;
    }
    let client = cluster.client().await.unwrap();
    client.put("/still-there", 0o644, b"x").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directory_of_another_cluster() {
    let mut first = single().await;
    let second = single().await;
    let foreign = first.client().await.unwrap().cluster_id().unwrap().to_string();
    let own = second.client().await.unwrap().cluster_id().unwrap().to_string();
    assert_ne!(foreign, own);
    first.datas[0].stop();
    let dir = first.datas[0].directory().to_owned();
    let before = snapshot(&dir);
    let free = format!("127.0.0.1:{}", free_ports(1).unwrap()[0]);
    let meta = second.metas[0].address();
    let data = ["data", "--dir", dir.to_str().unwrap(), "--meta", meta, "--http", "", "--listen", &free];
    refuses(&data, &[&foreign, &own]).await;
    assert!(snapshot(&dir) == before, "the directory was changed");
    // A client that wants one cluster does not talk to the other.
    let mut options = ConnectOptions::new(second.meta_addresses());
    options.cluster_id = first.client().await.unwrap().cluster_id();
    let refused = cairn_sdk::Client::connect(options).await.unwrap_err();
    assert!(matches!(refused.cause(), Cause::OtherCluster { .. }), "{refused}");
    // Another server's directory under a new id.
    first.metas[0].stop();
    let dir = first.metas[0].directory().to_owned();
    let before = snapshot(&dir);
    refuses(
        &["meta", "--dir", dir.to_str().unwrap(), "--id", "5", "--listen", &free, "--http", ""],
        &["belongs to"],
    )
    .await;
    assert!(snapshot(&dir) == before, "the directory was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directory_of_a_newer_format() {
    let mut cluster = single().await;
    cluster.metas[0].stop();
    cluster.datas[0].stop();
    for server in cluster.metas.iter_mut().chain(&mut cluster.datas) {
        let identity = server.directory().join("identity");
        let good = fs::read(&identity).unwrap();
        let mut newer = good.clone();
        newer[0] = 99;
        fs::write(&identity, &newer).unwrap();
        let before = snapshot(server.directory());
        let role = server.name().trim_end_matches(char::is_numeric).to_owned();
        let path = server.config_path();
        // A data node needs its metadata servers before it can be told anything else.
        let outcome = cairn(&[&role, "--config", path.to_str().unwrap()]).await;
        assert_eq!(outcome.code, 2, "{role}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains("99") && outcome.stderr.contains("newer"),
            "{role}: {}",
            outcome.stderr
        );
        assert!(snapshot(server.directory()) == before, "{role}: the directory was changed");
        // Damaged is another thing than newer.
        let mut damaged = good.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 0xff;
        fs::write(&identity, &damaged).unwrap();
        let outcome = cairn(&[&role, "--config", path.to_str().unwrap()]).await;
        assert_eq!(outcome.code, 2, "{role}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("damaged"), "{role}: {}", outcome.stderr);
        fs::write(&identity, &good).unwrap();
    }
    cluster.start_all().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn name_too_long_and_path_through_a_file() {
    let cluster = single().await;
    let client = cluster.client().await.unwrap();
    client.put("/file", 0o644, b"x").await.unwrap();
    let long = "n".repeat(256);
    let name = client.mkdir(format!("/{long}"), 0o755).await.unwrap_err();
    assert_eq!((name.fs(), name.errno()), (Some(&FsError::NameTooLong), 36), "{name}");
    client.mkdir(format!("/{}", "n".repeat(255)), 0o755).await.unwrap();
    let path = client.mkdir("/x".repeat(2050), 0o755).await.unwrap_err();
    assert_eq!(path.fs(), Some(&FsError::NameTooLong), "{path}");
    for below in ["/file/below", "/file/a/b"] {
        let through = client.put(below, 0o644, b"y").await.unwrap_err();
        assert_eq!((through.fs(), through.errno()), (Some(&FsError::NotDirectory), 20), "{through}");
        assert_eq!(client.stat(below).await.unwrap_err().fs(), Some(&FsError::NotDirectory));
        let mkdir = client.mkdir(below, 0o755).await.unwrap_err();
        assert_eq!(mkdir.fs(), Some(&FsError::NotDirectory), "{mkdir}");
    }
    for (path, wanted) in [
        ("relative", FsError::InvalidPath),
        ("/a/../b", FsError::InvalidPath),
        ("/nul\0", FsError::InvalidPath),
    ] {
        assert_eq!(client.mkdir(path, 0o755).await.unwrap_err().fs(), Some(&wanted), "{path:?}");
    }
    let mut command = cluster.cli();
    command.args(["fs", "mkdir", &format!("/{long}")]);
    let outcome = run(command, b"", Duration::from_secs(60)).await.unwrap();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("255"), "{}", outcome.stderr);
    let mut command = cluster.cli();
    command.args(["fs", "mkdir", "/file/below"]);
    let outcome = run(command, b"", Duration::from_secs(60)).await.unwrap();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("not a directory"), "{}", outcome.stderr);
    // Nothing was made.
    let file = client.open("/file").await.unwrap();
    assert_eq!(file.read_at(0, 10).await.unwrap(), &b"x"[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_no_name_may_be_are_refused_on_the_wire_too() {
    let cluster = single().await;
    let client = cluster.client().await.unwrap();
    let wire = Wire::new(&cluster, &client);
    let session = wire.open_session().await.unwrap();
    for (n, path) in [&b"/a/../b"[..], b"/nul\0", b"a/..", b"/\xff/.."].into_iter().enumerate() {
        let mut at = target("/");
        at.path = path.to_vec().into();
        let mkdir = Mkdir { target: Some(at), mode: 0o755, uid: 0, gid: 0, parents: true };
        let refused = wire.mutate(session, n as u64 + 1, Operation::Mkdir(mkdir)).await;
        assert!(refused.is_err(), "{path:?} was made");
    }
    // An operation that is not there, a target that is not there.
    let request = cairn_proto::v1::MutateRequest { session, sequence: 90, ..Default::default() };
    let mut leader = wire.leader().await.unwrap();
    assert!(leader.mutate(wire.request(request)).await.is_err());
    assert!(leader.stat(wire.request(StatRequest::default())).await.is_err());
    // A name that is no text is a name.
    let mut at = target("/");
    at.path = b"/\xff\xfe\x01".to_vec().into();
    let mkdir = Mkdir { target: Some(at), mode: 0o755, uid: 0, gid: 0, parents: false };
    wire.mutate(session, 91, Operation::Mkdir(mkdir)).await.unwrap();
    client.stat(&b"/\xff\xfe\x01"[..]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_speaks_garbage() {
    let mut cluster = single().await;
    let client = cluster.client().await.unwrap();
    client.put("/file", 0o644, b"content").await.unwrap();
    let garbage: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for server in [cluster.metas[0].address().to_owned(), cluster.datas[0].address().to_owned()] {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            &garbage,
            &[preface, &garbage[..]].concat(),
            preface,
            b"",
        ] {
            let mut stream = TcpStream::connect(&server).await.unwrap();
            // The server may have hung up already: that is an answer too.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        }
        // Connections that say nothing take no one's place.
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(TcpStream::connect(&server).await.unwrap());
        }
        let file = client.open("/file").await.unwrap();
        assert_eq!(file.read_at(0, 100).await.unwrap(), &b"content"[..]);
        drop(silent);
    }
    client.put("/after", 0o644, b"x").await.unwrap();
    assert!(cluster.metas[0].is_running() && cluster.datas[0].is_running());
    for server in [&cluster.metas[0], &cluster.datas[0]] {
        assert!(!server.log_tail().contains("panicked"), "{}", server.log_tail());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_cluster_or_protocol() {
    let cluster = single().await;
    let client = cluster.client().await.unwrap();
    let wire = Wire::new(&cluster, &client);
    let mut meta = wire.meta(cluster.metas[0].address()).await.unwrap();
    let request = || StatRequest { target: Some(target("/")), ..StatRequest::default() };
    let mut foreign = wire.request(request());
    foreign.metadata_mut().insert("cairn-cluster-id", "00112233445566778899aabbccddeeff".parse().unwrap());
    let refused = meta.stat(foreign).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    let mut newer = wire.request(request());
    newer.metadata_mut().insert("cairn-protocol", 999.into());
    newer.metadata_mut().insert("cairn-protocol-min", 999.into());
    let refused = meta.stat(newer).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("999"), "{refused}");
    let refused = meta.stat(tonic::Request::new(request())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    let mut data = wire.data(cluster.datas[0].address()).await.unwrap();
    let mut foreign = wire.request(cairn_proto::v1::NodeStatusRequest::default());
    foreign.metadata_mut().insert("cairn-cluster-id", "00112233445566778899aabbccddeeff".parse().unwrap());
    assert_eq!(data.node_status(foreign).await.unwrap_err().code(), tonic::Code::FailedPrecondition);
    assert!(meta.hello(wire.request(HelloRequest { client: "x".into() })).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_its_limit() {
    let cluster = single().await;
    let client = cluster.client().await.unwrap();
    let log = client.open_append("/log").await.unwrap();
    let over = log.append(vec![1; (1 << 20) + 1]).await.unwrap_err();
    assert_eq!(over.kind(), ErrorKind::Invalid, "{over}");
    assert_eq!(log.append(Vec::new()).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(log.append(vec![1; 1 << 20]).await.unwrap(), 0);
    // Without the SDK's own check: 8 MiB in one message.
    let wire = Wire::new(&cluster, &client);
    let mut meta = wire.meta(cluster.metas[0].address()).await.unwrap();
    let mut huge = target("/");
    huge.path = vec![b'x'; 8 << 20].into();
    let request = StatRequest { target: Some(huge), ..StatRequest::default() };
    let refused = meta.stat(wire.request(request)).await.unwrap_err();
    let known = matches!(
        refused.code(),
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted | tonic::Code::Internal
    );
    assert!(known, "{refused}");
    assert_eq!(log.append(vec![2; 10]).await.unwrap(), 1 << 20);
    let mut command = cluster.cli();
    command.args(["fs", "append", "/log"]);
    let outcome = run(command, &vec![b'x'; 2 << 20], Duration::from_secs(20)).await.unwrap();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert_eq!(client.stat("/log").await.unwrap().size, (1 << 20) + 10);
}
