//! The samples of deploy/: three metadata servers and three data nodes start from them as they
//! are, on other ports and in other directories.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cairn_sdk::{Client, ConnectOptions};
use cairn_tests::cluster::{cairn_binary, eventually};
use cairn_tests::s3_server::{free_ports, spawn_bound_to_this_process};

struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn deploy() -> &'static Path {
    Path::new("../deploy")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_start_three_and_three() {
    let directory = tempfile::tempdir().unwrap();
    let sample_ports: Vec<u16> = (71..77).flat_map(|n| [n * 100, n * 100 + 1]).collect();
    let ports = free_ports(sample_ports.len()).unwrap();
    let mut processes = Processes(Vec::new());
    for name in ["meta1", "meta2", "meta3", "data1", "data2", "data3"] {
        let mut text = fs::read_to_string(deploy().join(format!("sample/{name}.toml"))).unwrap();
        for (sample, port) in sample_ports.iter().zip(&ports) {
            text = text.replace(&format!(":{sample}\""), &format!(":{port}\""));
        }
        text = text.replace("/var/lib/cairn", directory.path().to_str().unwrap());
        assert!(!text.contains(":7100\"") && text.contains(directory.path().to_str().unwrap()));
        let config = directory.path().join(format!("{name}.toml"));
        fs::write(&config, text).unwrap();
        let log = File::create(directory.path().join(format!("{name}.log"))).unwrap();
        let mut command = Command::new(cairn_binary().unwrap());
        command.args([name.trim_end_matches(char::is_numeric), "--config"]).arg(&config);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        processes.0.push(spawn_bound_to_this_process(command).unwrap());
    }
    let metas = [0, 2, 4].map(|n| format!("127.0.0.1:{}", ports[n]));
    let started = Instant::now();
    let client = match Client::connect(ConnectOptions::new(metas)).await {
        Ok(client) => client,
        Err(error) => panic!("{error} after {:?}:\n{}", started.elapsed(), logs(directory.path())),
    };
    let alive = || async {
        let status = client.status().await.ok()?;
        (status.nodes.iter().filter(|n| n.alive).count() == 3).then_some(status)
    };
    let status = match eventually("three data nodes", Duration::from_secs(60), alive).await {
        Ok(status) => status,
        Err(error) => panic!("{error}:\n{}", logs(directory.path())),
    };
    assert_eq!(status.servers.len(), 3);
    let policy = client.policy("/").await.unwrap();
    assert_eq!((policy.replicas, policy.min_replicas), (3, 2));
    client.put("/file", 0o644, b"content").await.unwrap();
    client.sync("/file").await.unwrap();
    assert!(directory.path().join("bucket").is_dir());
}

fn logs(directory: &Path) -> String {
    let mut text = String::new();
    for name in ["meta1", "meta2", "meta3", "data1", "data2", "data3"] {
        let log = fs::read_to_string(directory.join(format!("{name}.log"))).unwrap_or_default();
        let end: Vec<&str> = log.lines().rev().take(8).collect();
        text.push_str(&format!("{name}:\n{}\n", end.into_iter().rev().collect::<Vec<_>>().join("\n")));
    }
    text
}

#[test]
fn the_units_start_what_there_is() {
    for (unit, role) in [("cairn-meta@.service", "meta"), ("cairn-data@.service", "data")] {
        let text = fs::read_to_string(deploy().join("systemd").join(unit)).unwrap();
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let arguments: Vec<&str> = start.split_whitespace().collect();
        assert!(arguments[0].ends_with("/cairn"), "{unit}: {start}");
        assert_eq!(arguments[1], role, "{unit}: {start}");
        // What follows must be flags that the program knows.
        let mut command = Command::new(cairn_binary().unwrap());
        command.arg(role).arg("--help");
        let help = String::from_utf8(command.output().unwrap().stdout).unwrap();
        for flag in arguments.iter().filter(|a| a.starts_with("--")) {
            let name = flag.split('=').next().unwrap();
            assert!(help.contains(name), "{unit}: {name} is no flag of cairn {role}");
        }
    }
}
