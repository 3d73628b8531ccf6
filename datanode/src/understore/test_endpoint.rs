//! A real S3 endpoint for the tests of this crate: the one that `CAIRN_TEST_S3_ENDPOINT` names
//! (credentials from the AWS chain, bucket `CAIRN_TEST_S3_BUCKET`, default `cairn-test`), else a
//! SeaweedFS that this test process starts, once. (`cairn-tests` has more of it, but a data node
//! may not depend on that.)

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aws_credential_types::Credentials;
use cairn_types::random::{Random, SystemRandom};
use tokio::sync::OnceCell;

use super::{Access, MountBucket, S3Clients, S3Store};

const TIMEOUT: Duration = Duration::from_secs(10);
const READY_WITHIN: Duration = Duration::from_secs(60);
const KEY: &str = "cairn-unit-access";
const SECRET: &str = "cairn-unit-secret-0123456789";

/// Where it is, and the keys to it when they do not come from the environment.
#[derive(Clone)]
struct Endpoint {
    bucket: MountBucket,
    ours: bool,
}

/// Held open by this process alone: the server's shell ends with it.
static ENDPOINT: OnceCell<Endpoint> = OnceCell::const_new();
static MOTO: OnceCell<Endpoint> = OnceCell::const_new();

/// A store in a prefix of its own.
pub(crate) async fn s3_for_tests() -> S3Store {
    let endpoint = ENDPOINT.get_or_init(endpoint).await;
    let prefix = format!("unit-{:016x}/", SystemRandom.next_u64());
    store(endpoint, &prefix).await
}

/// The same in a moto: byte order, other opinions, no races.
pub(crate) async fn moto_for_tests() -> S3Store {
    let endpoint = MOTO.get_or_init(moto).await;
    let prefix = format!("unit-{:016x}/", SystemRandom.next_u64());
    store(endpoint, &prefix).await
}

/// The SeaweedFS as a data node is told of it, and the text of a file with its credentials.
pub(crate) async fn bucket_for_tests() -> (MountBucket, String) {
    let endpoint = ENDPOINT.get_or_init(endpoint).await;
    let credentials = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    (endpoint.bucket.clone(), credentials)
}

async fn store(endpoint: &Endpoint, prefix: &str) -> S3Store {
    let mut store = S3Clients::load(TIMEOUT).await.store(&endpoint.bucket, prefix);
    if endpoint.ours {
        let keys = Credentials::new(KEY, SECRET, None, None, "test");
        let config = store.client.config().to_builder().credentials_provider(keys).build();
        store.client = aws_sdk_s3::Client::from_conf(config);
    }
    store
}

async fn endpoint() -> Endpoint {
    let bucket = std::env::var("CAIRN_TEST_S3_BUCKET").unwrap_or_else(|_| "cairn-test".to_owned());
    let at = |endpoint: String| MountBucket {
        bucket: bucket.clone(),
        endpoint,
        region: String::new(),
        force_path_style: true,
        access: Access::default(),
    };
    if let Ok(named) = std::env::var("CAIRN_TEST_S3_ENDPOINT") {
        return Endpoint { bucket: at(named), ours: false };
    }
    started(&at, start_seaweed).await
}

async fn moto() -> Endpoint {
    let at = |endpoint: String| MountBucket {
        bucket: "cairn-test".to_owned(),
        endpoint,
        force_path_style: true,
        ..MountBucket::default()
    };
    started(&at, start_moto).await
}

/// Starts a server, and makes the bucket as soon as it can.
async fn started(at: &impl Fn(String) -> MountBucket, start: fn() -> u16) -> Endpoint {
    // A port may be taken between its choice and its use.
    for _ in 0..3 {
        let port = start();
        let endpoint = Endpoint { bucket: at(format!("http://127.0.0.1:{port}")), ours: true };
        let store = store(&endpoint, "").await;
        let made = tokio::time::timeout(READY_WITHIN, async {
            while store.client.create_bucket().bucket(&store.bucket).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        if made.await.is_ok() {
            return endpoint;
        }
    }
    panic!("the server did not come up within {READY_WITHIN:?}, three times");
}

/// Starts it on free ports; answers S3's.
fn start_seaweed() -> u16 {
    let home = tempfile::tempdir().unwrap().keep();
    std::fs::create_dir(home.join("data")).unwrap();
    let identities = format!(
        r#"{{"identities":[{{"name":"unit","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
    );
    std::fs::write(home.join("s3.json"), identities).unwrap();
    let held: Vec<TcpListener> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    let mut command = guarded(tool("weed", "CAIRN_WEED"));
    command.args(["-logtostderr=true", "server", "-dir=data", "-filer", "-s3"]);
    command.args(["-s3.config=s3.json", "-s3.iam=false", "-s3.autoCreateBucket=false"]);
    command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=100", "-master.telemetry=false"]);
    command.args(["-master.volumeSizeLimitMB=512", "-master.electionTimeout=1s"]);
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
    command.args(["-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"]);
    for (service, ports) in ["s3", "master", "volume", "filer"].iter().zip(ports.chunks_exact(2)) {
        command.arg(format!("-{service}.port={}", ports[0]));
        command.arg(format!("-{service}.port.grpc={}", ports[1]));
    }
    drop(held);
    spawn(command, &home);
    ports[0]
}

/// Starts moto on a free port; answers that.
fn start_moto() -> u16 {
    let home = tempfile::tempdir().unwrap().keep();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let mut command = guarded(tool("moto_server", "CAIRN_MOTO_SERVER"));
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    drop(held);
    spawn(command, &home);
    port
}

/// A server that ends when this process does, however it does: its standard input ends then.
fn guarded(server: PathBuf) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(r#""$@" </dev/null & read _; kill -9 $!; wait; rm -rf "$PWD""#).arg("sh");
    command.arg(server);
    command
}

fn spawn(mut command: Command, home: &Path) {
    let log = std::fs::File::create(home.join("log")).unwrap();
    command.current_dir(home).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    let child = command.spawn().unwrap();
    // Never waited for, and its input never closed, before this process ends.
    std::mem::forget(child);
}

fn tool(name: &str, variable: &str) -> PathBuf {
    if let Some(named) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        return named.into();
    }
    // This runs from <target>/release/deps; `cargo xtask setup` puts the tools into <target>/tools.
    let executable = std::env::current_exe().unwrap();
    let tool = Path::new("tools/current/bin").join(name);
    let places = executable.ancestors().skip(1).take(4).map(|directory| directory.join(&tool));
    let found = places.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {name}: run `cargo xtask setup`, or set {variable}"))
}
