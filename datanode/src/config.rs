//! [`Config`]: what a data node is told at its start, and its checks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cairn_proto::frames::Transport;
use cairn_types::{ClusterId, is_domain_name};
use serde::{Deserialize, Serialize};

use crate::dirs::{self, DirsError};

/// The smallest segment that still holds a few of the largest appends.
const SEGMENT_MIB_MIN: u64 = 4;
/// The largest segment: its offsets fit 32 bits.
const SEGMENT_MIB_MAX: u64 = 2048;
/// Segments without which a node cannot clean one while it writes another.
const SEGMENTS_MIN: u64 = 6;
/// Where a node keeps its data when it is not told.
const DIR: &str = "/var/lib/cairn/data";
/// The least memory a node works in.
const MEMORY_MIB_MIN: u64 = 64;

/// A data node's configuration, as its TOML file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node's directory: segments, its identity, its lock. One process at a time. Made when it is missing.
    pub dir: PathBuf,
    /// In place of `dir`, the directories of several disks, each a disk of its own. They must be there: one that is
    /// missing, or cannot be used, is left out while others can.
    pub dirs: Vec<PathBuf>,
    /// The gRPC address, `ip:port`. Port 0: the kernel picks one, `Ready` tells it.
    pub listen: String,
    /// The address that peers and clients are told; empty: the one listened on.
    pub advertise: String,
    /// Addresses of the metadata servers, `host:port`; any of them leads to the others.
    pub meta: Vec<String>,
    /// The address of /metrics, /healthz and /readyz; empty: off.
    pub http: String,
    /// MiB that segments may take on each disk; 0: 80 % of what is free in the filesystem at the format, shared by
    /// the disks that are on it.
    pub capacity_mib: u64,
    /// MiB in a segment, fixed at the format.
    pub segment_mib: u64,
    /// MiB of memory the process may use for buffers, whatever the number of its disks.
    pub memory_mib: u64,
    /// Milliseconds after which a replica that does not answer is sealed without.
    pub replica_deadline_ms: u64,
    /// Milliseconds after which an append, a replica's record or a piece of a read is told in the log; 0: none is.
    pub slow_operation_ms: u64,
    /// The zone that this node is in, as other nodes name theirs: copies of a chunk are spread over zones.
    /// Empty: none.
    pub zone: String,
    /// The machine that it is on, as other nodes name theirs: copies are spread over machines within
    /// zones. Empty: the machine's boot id tells which it is.
    pub host: String,
    /// The cluster to belong to, 32 hex digits; empty: the metadata servers' at the first start.
    pub cluster_id: String,
    /// Percent of the segments in use above which what is in S3 too is evicted, in the background.
    pub space_high_percent: u8,
    /// Percent down to which it is.
    pub space_low_percent: u8,
    /// MiB that the scrub reads in a second from each disk, at most about; 0: off.
    pub scrub_mib_per_second: u64,
    /// Seconds from the end of a scrub's pass to the next.
    pub scrub_rest_seconds: u64,
    /// Allows an address other than loopback without TLS.
    pub insecure: bool,
    /// How the hot calls travel, beside gRPC on the same port: `auto` (frames over TCP, and by a unix socket in
    /// `dir` on the same machine), `tcp` (without the socket), `grpc` (no frames, neither served nor sent).
    pub transport: String,
    /// Where sealed chunks go; absent: nothing is persisted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub understore: Option<UnderStoreConfig>,
}

/// Where sealed chunks go. Credentials come from the usual AWS chain, never from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnderStoreConfig {
    /// `s3://bucket/prefix`, or `file:///absolute/directory`.
    pub url: String,
    /// The endpoint, for other than AWS; empty: AWS.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// Buckets in the path, not in the host name.
    pub force_path_style: bool,
    /// Milliseconds after which one attempt of a request is given up.
    pub timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from(DIR),
            dirs: Vec::new(),
            listen: "127.0.0.1:7400".to_owned(),
            advertise: String::new(),
            meta: vec!["127.0.0.1:7100".to_owned()],
            http: "127.0.0.1:7401".to_owned(),
            capacity_mib: 0,
            segment_mib: 256,
            memory_mib: 512,
            replica_deadline_ms: 300,
            slow_operation_ms: 500,
            zone: String::new(),
            host: String::new(),
            cluster_id: String::new(),
            space_high_percent: 90,
            space_low_percent: 85,
            scrub_mib_per_second: 4,
            scrub_rest_seconds: 3_600,
            insecure: false,
            transport: "auto".to_owned(),
            understore: None,
        }
    }
}

impl Default for UnderStoreConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            force_path_style: true,
            timeout_ms: 10_000,
        }
    }
}

/// What is wrong with a configuration; each names its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An address is not `ip:port`.
    #[error("{field}: '{value}' is not an address like 127.0.0.1:7400")]
    Address {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// An address that others can reach was asked for without TLS.
    #[error(
        "{field}: {address} can be reached from other machines without TLS; set insecure = true to allow it"
    )]
    NotLoopback {
        /// The field.
        field: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// An address that peers and clients are told and that leads nowhere.
    #[error(
        "{field}: '{value}' is no address that others can reach: give one of this machine's addresses in advertise"
    )]
    Unspecified {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// The directories cannot be disks beside each other.
    #[error("dirs: {0}")]
    Dirs(#[from] DirsError),
    /// Two settings say where the data is.
    #[error("dir: '{}' is set, and dirs as well: name all disks in dirs, or one in dir", dir.display())]
    DirAndDirs {
        /// What `dir` holds.
        dir: PathBuf,
    },
    /// No metadata server is named.
    #[error("meta: at least one metadata server must be named")]
    NoMeta,
    /// A transport that there is not.
    #[error("transport: '{value}' is none of auto, tcp, grpc")]
    Transport {
        /// What it holds.
        value: String,
    },
    /// The cluster id is not one.
    #[error("cluster_id: it is written as 32 hexadecimal digits, not all zero")]
    ClusterId,
    /// A zone or a host is no name.
    #[error("{field}: '{value}' is no name: letters, digits, '-', '_' and '.', 64 at most")]
    DomainName {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// A number is out of its range.
    #[error("{field}: {value} is out of range ({least} to {most})")]
    Range {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
        /// The smallest value allowed.
        least: u64,
        /// The largest value allowed.
        most: u64,
    },
    /// A URL of the under-store carries a name or a password. It is not repeated here.
    #[error(
        "{field}: a URL must hold no credentials; they come from the usual AWS chain (environment, ~/.aws, instance role)"
    )]
    Credentials {
        /// The field.
        field: &'static str,
    },
    /// The under-store's URL has a scheme that is not known, or no bucket or directory.
    #[error("understore.url: '{url}' is neither s3://bucket/prefix nor file:///absolute/directory")]
    UnderStoreUrl {
        /// What it holds.
        url: String,
    },
}

/// The addresses and ids of a [`Config`] that passed its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Where gRPC listens.
    pub listen: SocketAddr,
    /// Where HTTP listens, if at all.
    pub http: Option<SocketAddr>,
    /// The cluster that was named.
    pub cluster: Option<ClusterId>,
    /// How the hot calls travel.
    pub transport: Transport,
}

impl Config {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`], naming the first field that is wrong.
    pub fn check(&self) -> Result<Checked, ConfigError> {
        self.check_dirs()?;
        let listen = self.bindable("listen", &self.listen)?;
        let http = if self.http.is_empty() { None } else { Some(self.bindable("http", &self.http)?) };
        if self.advertise.is_empty() {
            specified("listen", &self.listen)?;
        } else {
            reachable("advertise", &self.advertise)?;
            specified("advertise", &self.advertise)?;
        }
        if self.meta.is_empty() {
            return Err(ConfigError::NoMeta);
        }
        self.meta.iter().try_for_each(|address| reachable("meta", address))?;
        for (field, name) in [("zone", &self.zone), ("host", &self.host)] {
            if !name.is_empty() && !is_domain_name(name) {
                return Err(ConfigError::DomainName { field, value: name.clone() });
            }
        }
        range("segment_mib", self.segment_mib, SEGMENT_MIB_MIN, SEGMENT_MIB_MAX)?;
        range("memory_mib", self.memory_mib, MEMORY_MIB_MIN, 1 << 24)?;
        range("replica_deadline_ms", self.replica_deadline_ms, 10, 60_000)?;
        range("space_high_percent", self.space_high_percent.into(), 10, 99)?;
        range("space_low_percent", self.space_low_percent.into(), 5, self.space_high_percent.into())?;
        range("scrub_mib_per_second", self.scrub_mib_per_second, 0, 1 << 20)?;
        range("scrub_rest_seconds", self.scrub_rest_seconds, 0, 30 * 24 * 3_600)?;
        if self.capacity_mib != 0 {
            range("capacity_mib", self.capacity_mib, SEGMENTS_MIN * self.segment_mib, 1 << 40)?;
        }
        if let Some(store) = &self.understore {
            store.check()?;
        }
        let transport =
            self.transport.parse().map_err(|()| ConfigError::Transport { value: self.transport.clone() })?;
        Ok(Checked { listen, http, cluster: self.cluster()?, transport })
    }

    /// Where the disks are; one at least.
    #[must_use]
    pub fn disks(&self) -> Vec<PathBuf> {
        if self.dirs.is_empty() { vec![self.dir.clone()] } else { self.dirs.clone() }
    }

    fn check_dirs(&self) -> Result<(), ConfigError> {
        dirs::check(&self.dirs)?;
        let says_nothing = self.dirs.is_empty() || self.dir == Path::new(DIR) || self.dir == self.dirs[0];
        if says_nothing { Ok(()) } else { Err(ConfigError::DirAndDirs { dir: self.dir.clone() }) }
    }

    fn cluster(&self) -> Result<Option<ClusterId>, ConfigError> {
        if self.cluster_id.is_empty() {
            return Ok(None);
        }
        let id = self.cluster_id.parse::<ClusterId>().map_err(|_| ConfigError::ClusterId)?;
        if id.is_nil() { Err(ConfigError::ClusterId) } else { Ok(Some(id)) }
    }

    fn bindable(&self, field: &'static str, value: &str) -> Result<SocketAddr, ConfigError> {
        let address: SocketAddr =
            value.parse().map_err(|_| ConfigError::Address { field, value: value.to_owned() })?;
        if address.ip().is_loopback() || self.insecure {
            Ok(address)
        } else {
            Err(ConfigError::NotLoopback { field, address })
        }
    }
}

impl UnderStoreConfig {
    fn check(&self) -> Result<(), ConfigError> {
        // No endpoint and no bucket has an `@`; a secret may hold any character, so that it cannot be cut out.
        if self.endpoint.contains('@') {
            return Err(ConfigError::Credentials { field: "understore.endpoint" });
        }
        let named = self.url.strip_prefix("s3://").and_then(|rest| rest.split('/').next());
        if named.is_some_and(|bucket| bucket.contains(['@', ':'])) {
            return Err(ConfigError::Credentials { field: "understore.url" });
        }
        let bucket =
            self.url.strip_prefix("s3://").map(|rest| !rest.split('/').next().unwrap_or("").is_empty());
        let directory = self.url.strip_prefix("file://").map(|path| path.starts_with('/'));
        if bucket.or(directory) != Some(true) {
            return Err(ConfigError::UnderStoreUrl { url: self.url.clone() });
        }
        range("understore.timeout_ms", self.timeout_ms, 100, 600_000)
    }
}

/// Checks that `value` is `host:port` with a port that can be connected to.
fn reachable(field: &'static str, value: &str) -> Result<(), ConfigError> {
    let port = value.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(port) if port != 0 => Ok(()),
        _ => Err(ConfigError::Address { field, value: value.to_owned() }),
    }
}

/// Refuses `0.0.0.0` and `[::]`: good to listen on, no place to go to.
fn specified(field: &'static str, value: &str) -> Result<(), ConfigError> {
    if value.parse::<SocketAddr>().is_ok_and(|address| address.ip().to_canonical().is_unspecified()) {
        Err(ConfigError::Unspecified { field, value: value.to_owned() })
    } else {
        Ok(())
    }
}

fn range(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::Range { field, value, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(toml: &str) -> Result<Checked, ConfigError> {
        toml::from_str::<Config>(toml).unwrap().check()
    }

    #[test]
    fn the_default_is_valid_and_survives_toml() {
        let config = Config::default();
        assert!(config.check().is_ok());
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn disks_are_named_one_or_all_of_them() {
        let disks = |toml| toml::from_str::<Config>(toml).unwrap().disks();
        assert_eq!(disks("dir = '/a'"), [PathBuf::from("/a")]);
        assert_eq!(disks("dirs = ['/a', '/b']"), [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert!(checked("dirs = ['/a', '/b']").is_ok());
        assert!(checked("dir = '/a'\ndirs = ['/a', '/b']").is_ok(), "it was the first of them before");
        let both = checked("dir = '/c'\ndirs = ['/a', '/b']").unwrap_err();
        assert_eq!(both, ConfigError::DirAndDirs { dir: PathBuf::from("/c") });
        let twice = checked("dirs = ['/a', '/a']").unwrap_err();
        assert_eq!(twice.to_string(), "dirs: /a is named twice");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = toml::from_str::<Config>("listne = 'x'").unwrap_err();
        assert!(error.to_string().contains("listne"), "{error}");
        let error = toml::from_str::<Config>("[understore]\nbukket = 'x'").unwrap_err();
        assert!(error.to_string().contains("bukket"), "{error}");
    }

    #[test]
    fn other_machines_are_let_in_only_on_request() {
        let refused = checked("listen = '0.0.0.0:7400'");
        assert!(matches!(refused, Err(ConfigError::NotLoopback { field: "listen", .. })));
        let refused = checked("http = '0.0.0.0:7401'");
        assert!(matches!(refused, Err(ConfigError::NotLoopback { field: "http", .. })));
        assert!(checked("listen = '10.0.0.1:7400'\ninsecure = true").is_ok());
    }

    #[test]
    fn an_address_that_leads_nowhere_is_told_to_nobody() {
        for listen in ["0.0.0.0:7400", "[::]:7400", "[::ffff:0.0.0.0]:7400"] {
            let open = format!("listen = '{listen}'\ninsecure = true\n");
            let refused = checked(&open);
            assert!(matches!(refused, Err(ConfigError::Unspecified { field: "listen", .. })), "{refused:?}");
            assert!(checked(&format!("{open}advertise = 'data1:7400'")).is_ok());
            let refused = checked(&format!("{open}advertise = '{listen}'"));
            assert!(
                matches!(refused, Err(ConfigError::Unspecified { field: "advertise", .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        for (field, table) in [
            ("understore.endpoint", "url = 's3://bucket/x'\nendpoint = 'http://AKID:SEC/RET@host:9000'"),
            ("understore.endpoint", "url = 's3://bucket/x'\nendpoint = 'SECRET@host'"),
            ("understore.url", "url = 's3://AKID:SECRET@bucket/x'"),
            ("understore.url", "url = 's3://AKID:SEC/RET@bucket/x'"),
        ] {
            let refused = checked(&format!("[understore]\n{table}")).unwrap_err();
            assert_eq!(refused, ConfigError::Credentials { field });
            let told = refused.to_string();
            assert!(told.contains(field) && !told.contains("AKID") && !told.contains("RET"), "{told}");
        }
        assert!(checked("[understore]\nurl = 's3://bucket/a@b:c'\nendpoint = 'http://host:9000'").is_ok());
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let bad = |toml| checked(toml).unwrap_err();
        assert_eq!(bad("transport = 'udp'"), ConfigError::Transport { value: "udp".to_owned() });
        assert_eq!(checked("transport = 'grpc'").map(|checked| checked.transport), Ok(Transport::Grpc));
        assert!(matches!(bad("listen = 'here'"), ConfigError::Address { field: "listen", .. }));
        assert!(matches!(bad("meta = ['x']"), ConfigError::Address { field: "meta", .. }));
        assert_eq!(bad("meta = []"), ConfigError::NoMeta);
        assert!(matches!(bad("zone = 'a b'"), ConfigError::DomainName { field: "zone", .. }));
        assert!(matches!(bad("host = 'x/y'"), ConfigError::DomainName { field: "host", .. }));
        assert!(checked("zone = 'eu-1a'\nhost = 'rack_7.2'").is_ok());
        assert_eq!(bad("cluster_id = 'abc'"), ConfigError::ClusterId);
        assert!(matches!(bad("segment_mib = 1"), ConfigError::Range { field: "segment_mib", .. }));
        let field = "space_low_percent";
        assert!(matches!(bad("space_high_percent = 80"), ConfigError::Range { field: f, .. } if f == field));
        assert!(matches!(bad("capacity_mib = 10"), ConfigError::Range { field: "capacity_mib", .. }));
        let url = "[understore]\nurl = 'ftp://x'";
        assert!(matches!(bad(url), ConfigError::UnderStoreUrl { .. }));
        assert!(checked("[understore]\nurl = 's3://bucket/prefix'").is_ok());
        assert!(checked("[understore]\nurl = 'file:///tmp/x'").is_ok());
    }
}
