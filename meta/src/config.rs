//! [`Config`]: how one metadata server runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use cairn_types::limits::SESSION_LEASE_MS;
use cairn_types::{
    Ack, FEATURE_LEVEL, FEATURE_LEVEL_LOWEST, FeatureLevel, FeatureLevels, FsError, NodeId, Persist, Policy,
};
use serde::{Deserialize, Serialize};

/// Members of a group, at most.
const PEERS_MAX: usize = 31;
/// Watches of a server, at most.
const WATCHES_MAX: usize = 65_536;
/// MiB of copies a second, at most.
const REPAIR_MIB_MAX: u64 = 1 << 20;
/// What a session's lease may be, in milliseconds.
const LEASE_MS: RangeInclusive<u64> = 1_000..=3_600_000;

/// How long a dead pack is kept at least, in milliseconds.
const PACK_DELAY_MS_MIN: u64 = 1_000;
/// What compaction may write again in a second, in MiB.
const COMPACT_MIB: RangeInclusive<u64> = 1..=65_536;
/// What merging may write again in a second, in MiB, at most.
const MERGE_MIB_MAX: u64 = 65_536;
/// How long an extent is left alone, in milliseconds, at most: a year.
const MERGE_AFTER_MS_MAX: u64 = 31_536_000_000;

/// How one metadata server runs. Every field has a default; an unknown one is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This server's id, from 1; never reused.
    pub id: u64,
    /// Where it keeps everything: `raft/`, `state/`, `snapshot/`, `identity`, `LOCK`.
    pub dir: PathBuf,
    /// Where it serves gRPC. Port 0: the kernel picks one.
    pub listen: String,
    /// What others are told; empty: the address it listens on.
    pub advertise: String,
    /// The first members, `id@host:port`; used when the directory is new. Empty: this server alone.
    pub peers: Vec<String>,
    /// Servers of a cluster that this one is to be added to, `host:port`; used when the directory is
    /// new. Empty: it forms a cluster, with `peers` or alone.
    pub join: Vec<String>,
    /// Where it serves /metrics, /healthz and /readyz; empty: nowhere.
    pub http: String,
    /// A leader's heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// The least time without a leader before an election, in milliseconds.
    pub election_min_ms: u64,
    /// The greatest, in milliseconds.
    pub election_max_ms: u64,
    /// A data node silent that long is not placed on, in milliseconds.
    pub node_timeout_ms: u64,
    /// How long a session lives after its last sign of life, in milliseconds. The leader's counts.
    pub session_lease_ms: u64,
    /// Watches that this server takes at one time.
    pub watches_max: usize,
    /// Names of removed trees that the leader purges in a second, at most; 0: as fast as it can.
    pub tree_purge_per_second: u32,
    /// MiB of further copies that the leader asks one data node to receive in a second, at most; 0: as
    /// fast as it can.
    pub repair_mib_per_second: u64,
    /// Packs of which less than that is alive are compacted, in percent, below 100; 0: none is.
    pub compact_below_percent: u32,
    /// What compaction writes again in a second on the average, in MiB, from 1.
    pub compact_mib_per_second: u64,
    /// What merging small extents of files writes again in a second on the average, in MiB; 0: none is
    /// merged.
    pub merge_mib_per_second: u64,
    /// How long an extent is left alone after its seal, in milliseconds: what was written lately is read
    /// from the data nodes that have it.
    pub merge_after_ms: u64,
    /// Objects of mounted buckets that the leader has written, copied or deleted in a second, at most; 0: no
    /// bound.
    pub mount_objects_per_second: u32,
    /// How long a dead pack is kept in the under-store, in milliseconds: a reader may have been told of
    /// it, and a dump that was taken meanwhile needs it.
    pub pack_delay_ms: u64,
    /// A request that takes longer is told in the log, in milliseconds; 0: none is.
    pub slow_operation_ms: u64,
    /// The highest feature level that this server says it applies, and does; for rolling upgrades that are
    /// to be held, and for tests. 0: all that this build applies.
    pub feature_level_max: u32,
    /// Memory for the state's tables and caches, in MiB.
    pub memory_mib: usize,
    /// Allow an address other than this machine's own without TLS.
    pub insecure: bool,
    /// The root's policy, used when the cluster is made.
    pub policy: PolicyConfig,
}

/// A policy in a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Copies of each chunk that are aimed at.
    pub replicas: u8,
    /// Copies without which no chunk is opened.
    pub min_replicas: u8,
    /// What a replica must have done before an append counts.
    pub ack: Ack,
    /// When sealed chunks go to S3.
    pub persist: Persist,
    /// Age of the oldest unpersisted byte that is aimed at, in milliseconds.
    pub max_lag_ms: u64,
    /// Unpersisted bytes of one file above which its writers are slowed, then refused.
    pub max_lag_bytes: u64,
}

impl From<Policy> for PolicyConfig {
    fn from(p: Policy) -> Self {
        Self {
            replicas: p.replicas,
            min_replicas: p.min_replicas,
            ack: p.ack,
            persist: p.persist,
            max_lag_ms: p.max_lag_ms,
            max_lag_bytes: p.max_lag_bytes,
        }
    }
}

impl From<PolicyConfig> for Policy {
    fn from(p: PolicyConfig) -> Self {
        Self {
            replicas: p.replicas,
            min_replicas: p.min_replicas,
            ack: p.ack,
            persist: p.persist,
            max_lag_ms: p.max_lag_ms,
            max_lag_bytes: p.max_lag_bytes,
        }
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Policy::cluster().into()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: 1,
            dir: PathBuf::from("/var/lib/cairn/meta"),
            listen: "127.0.0.1:7100".to_owned(),
            advertise: String::new(),
            peers: Vec::new(),
            join: Vec::new(),
            http: "127.0.0.1:7101".to_owned(),
            heartbeat_ms: 250,
            election_min_ms: 600,
            election_max_ms: 1000,
            node_timeout_ms: 3000,
            session_lease_ms: SESSION_LEASE_MS,
            watches_max: 256,
            tree_purge_per_second: 20_000,
            repair_mib_per_second: 100,
            compact_below_percent: 50,
            compact_mib_per_second: 16,
            merge_mib_per_second: 4,
            merge_after_ms: 600_000,
            mount_objects_per_second: 1000,
            pack_delay_ms: 60_000,
            slow_operation_ms: 500,
            feature_level_max: 0,
            memory_mib: 512,
            insecure: false,
            policy: PolicyConfig::default(),
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The id is 0.
    #[error("id: a server's id starts at 1")]
    Id,
    /// An address is none.
    #[error("{field}: `{value}` is not an address of the form host:port")]
    Address {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// An address of another machine's reach without TLS.
    #[error(
        "{field}: `{value}` is reachable from outside without TLS; use a loopback address or set insecure = true"
    )]
    Exposed {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// An address that others are told and that leads nowhere.
    #[error(
        "{field}: `{value}` is no address that others can reach: give one of this machine's addresses in advertise, \
         or in peers for a group"
    )]
    Unspecified {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// A peer is not of the form `id@host:port`, or its id is there twice.
    #[error("peers: `{value}` is not of the form id@host:port, or its id is there twice")]
    Peer {
        /// What it holds.
        value: String,
    },
    /// This server is not among the peers.
    #[error("peers: this server's id {id} is not among them")]
    NotAmongPeers {
        /// This server's id.
        id: u64,
    },
    /// Too many peers.
    #[error("peers: at most {PEERS_MAX}")]
    TooManyPeers,
    /// Both `peers` and `join`.
    #[error("join: a server is added to a cluster (join) or one of its first members (peers), not both")]
    JoinAndPeers,
    /// The times do not fit each other.
    #[error("heartbeat_ms × 2 < election_min_ms < election_max_ms must hold")]
    Times,
    /// Readers would meet packs that are gone.
    #[error("pack_delay_ms: {found} is less than {PACK_DELAY_MS_MIN}")]
    PackDelay {
        /// What it holds.
        found: u64,
    },
    /// Packs would be compacted for ever, or never.
    #[error(
        "compact_below_percent must be below 100, compact_mib_per_second between {} and {}",
        COMPACT_MIB.start(),
        COMPACT_MIB.end()
    )]
    Compacting,
    /// More than any cluster writes, or longer than anybody waits.
    #[error(
        "merge_mib_per_second must be at most {MERGE_MIB_MAX} (0: off), merge_after_ms at most {MERGE_AFTER_MS_MAX}"
    )]
    Merging,
    /// A lease that no client could keep, or that outlives every reason for it.
    #[error("session_lease_ms: {found} is not between {} and {}", LEASE_MS.start(), LEASE_MS.end())]
    SessionLease {
        /// What it holds.
        found: u64,
    },
    /// More watches than a server may take.
    #[error("watches_max: {found} is more than {WATCHES_MAX}")]
    Watches {
        /// What it holds.
        found: usize,
    },
    /// More than any disk takes.
    #[error("repair_mib_per_second: {found} is more than {REPAIR_MIB_MAX}")]
    RepairRate {
        /// What it holds.
        found: u64,
    },
    /// A feature level that this build does not apply.
    #[error(
        "feature_level_max: {found} is not between {FEATURE_LEVEL_LOWEST} and {FEATURE_LEVEL}, nor 0 for all"
    )]
    FeatureLevel {
        /// What it holds.
        found: u32,
    },
    /// The policy is out of range.
    #[error("policy: {0}")]
    Policy(FsError),
}

fn address(field: &'static str, value: &str) -> Result<SocketAddr, ConfigError> {
    value.parse().map_err(|_| ConfigError::Address { field, value: value.to_owned() })
}

/// Refuses `0.0.0.0` and `[::]`: good to listen on, no place to go to.
fn check_specified(field: &'static str, value: &str) -> Result<(), ConfigError> {
    if value.parse::<SocketAddr>().is_ok_and(|address| address.ip().to_canonical().is_unspecified()) {
        Err(ConfigError::Unspecified { field, value: value.to_owned() })
    } else {
        Ok(())
    }
}

/// True for the addresses that only this machine reaches.
fn is_local(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

impl Config {
    /// Checks everything that can be checked without touching the machine.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.id == 0 {
            return Err(ConfigError::Id);
        }
        self.listen_address()?;
        self.http_address()?;
        if !self.advertise.is_empty() {
            check_host_port("advertise", &self.advertise)?;
            check_specified("advertise", &self.advertise)?;
        }
        let members = self.members()?;
        members.values().try_for_each(|address| check_specified("peers", address))?;
        if members.is_empty() && self.advertise.is_empty() {
            check_specified("listen", &self.listen)?;
        }
        if !members.is_empty() && !members.contains_key(&NodeId(self.id)) {
            return Err(ConfigError::NotAmongPeers { id: self.id });
        }
        self.join.iter().try_for_each(|address| check_host_port("join", address))?;
        if self.join.len() > PEERS_MAX {
            return Err(ConfigError::TooManyPeers);
        }
        if !self.join.is_empty() && !members.is_empty() {
            return Err(ConfigError::JoinAndPeers);
        }
        let times = self.heartbeat_ms > 0
            && self.heartbeat_ms.saturating_mul(2) < self.election_min_ms
            && self.election_min_ms < self.election_max_ms;
        if !times {
            return Err(ConfigError::Times);
        }
        if !LEASE_MS.contains(&self.session_lease_ms) {
            return Err(ConfigError::SessionLease { found: self.session_lease_ms });
        }
        if self.watches_max > WATCHES_MAX {
            return Err(ConfigError::Watches { found: self.watches_max });
        }
        if self.repair_mib_per_second > REPAIR_MIB_MAX {
            return Err(ConfigError::RepairRate { found: self.repair_mib_per_second });
        }
        if self.pack_delay_ms < PACK_DELAY_MS_MIN {
            return Err(ConfigError::PackDelay { found: self.pack_delay_ms });
        }
        if self.compact_below_percent >= 100 || !COMPACT_MIB.contains(&self.compact_mib_per_second) {
            return Err(ConfigError::Compacting);
        }
        if self.merge_mib_per_second > MERGE_MIB_MAX || self.merge_after_ms > MERGE_AFTER_MS_MAX {
            return Err(ConfigError::Merging);
        }
        let found = self.feature_level_max;
        if found != 0 && !FeatureLevels::default().include(FeatureLevel(found)) {
            return Err(ConfigError::FeatureLevel { found });
        }
        Policy::from(self.policy).check().map_err(ConfigError::Policy)
    }

    /// Where to serve gRPC.
    ///
    /// # Errors
    /// `Address`, or `Exposed` for one that is reachable from outside without `insecure`.
    pub fn listen_address(&self) -> Result<SocketAddr, ConfigError> {
        self.guarded("listen", &self.listen)
    }

    /// Where to serve HTTP, if anywhere.
    ///
    /// # Errors
    /// As [`Config::listen_address`].
    pub fn http_address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        if self.http.is_empty() { Ok(None) } else { self.guarded("http", &self.http).map(Some) }
    }

    fn guarded(&self, field: &'static str, value: &str) -> Result<SocketAddr, ConfigError> {
        let found = address(field, value)?;
        if is_local(found.ip()) || self.insecure {
            Ok(found)
        } else {
            Err(ConfigError::Exposed { field, value: value.to_owned() })
        }
    }

    /// The feature levels that this server applies.
    #[must_use]
    pub fn levels(&self) -> FeatureLevels {
        match self.feature_level_max {
            0 => FeatureLevels::default(),
            highest => FeatureLevels::up_to(FeatureLevel(highest)),
        }
    }

    /// The first members; empty when this server is alone.
    ///
    /// # Errors
    /// `Peer`, `TooManyPeers`.
    pub fn members(&self) -> Result<BTreeMap<NodeId, String>, ConfigError> {
        if self.peers.len() > PEERS_MAX {
            return Err(ConfigError::TooManyPeers);
        }
        let mut members = BTreeMap::new();
        for peer in &self.peers {
            let bad = || ConfigError::Peer { value: peer.clone() };
            let (id, address) = peer.split_once('@').ok_or_else(bad)?;
            let id = id.parse().ok().filter(|id| *id > 0).ok_or_else(bad)?;
            check_host_port("peers", address).map_err(|_| bad())?;
            if members.insert(NodeId(id), address.to_owned()).is_some() {
                return Err(bad());
            }
        }
        Ok(members)
    }
}

/// Accepts `host:port` with any host, so that names work where they are resolved later.
fn check_host_port(field: &'static str, value: &str) -> Result<(), ConfigError> {
    let ok = value.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ' ', '@']) && port.parse::<u16>().is_ok()
    });
    if ok { Ok(()) } else { Err(ConfigError::Address { field, value: value.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_file_is_understood_and_a_wrong_word_is_named() {
        let text = "id = 2\npeers = [\"1@127.0.0.1:7100\", \"2@127.0.0.1:7200\"]\n[policy]\nreplicas = 1\nmin_replicas = 1";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.members().unwrap()[&NodeId(2)], "127.0.0.1:7200");
        assert_eq!(config.policy.max_lag_ms, 30_000);
        let error = toml::from_str::<Config>("lisen = \"x\"").unwrap_err().to_string();
        assert!(error.contains("lisen"), "{error}");
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&printed).unwrap(), config);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert_eq!(refused(|c| c.id = 0), ConfigError::Id);
        assert!(matches!(refused(|c| c.listen = "0.0.0.0:1".into()), ConfigError::Exposed { .. }));
        assert!(matches!(refused(|c| c.http = "nowhere".into()), ConfigError::Address { field: "http", .. }));
        assert!(matches!(refused(|c| c.peers = vec!["2@h:1".into()]), ConfigError::NotAmongPeers { id: 1 }));
        assert!(matches!(refused(|c| c.peers = vec!["1@h".into()]), ConfigError::Peer { .. }));
        assert!(matches!(
            refused(|c| c.peers = vec!["1@h:1".into(), "1@h:2".into()]),
            ConfigError::Peer { .. }
        ));
        assert!(matches!(refused(|c| c.join = vec!["h".into()]), ConfigError::Address { field: "join", .. }));
        let both = refused(|c| (c.peers, c.join) = (vec!["1@h:1".into()], vec!["h:2".into()]));
        assert_eq!(both, ConfigError::JoinAndPeers);
        assert_eq!(refused(|c| c.heartbeat_ms = 900), ConfigError::Times);
        let short = refused(|c| c.session_lease_ms = 999);
        assert_eq!(short, ConfigError::SessionLease { found: 999 });
        assert!(short.to_string().ends_with("999 is not between 1000 and 3600000"), "{short}");
        let long = refused(|c| c.session_lease_ms = 3_600_001);
        assert_eq!(long, ConfigError::SessionLease { found: 3_600_001 });
        assert_eq!(refused(|c| c.watches_max = 65_537), ConfigError::Watches { found: 65_537 });
        let rate = ConfigError::RepairRate { found: REPAIR_MIB_MAX + 1 };
        assert_eq!(refused(|c| c.repair_mib_per_second = REPAIR_MIB_MAX + 1), rate);
        assert_eq!(refused(|c| c.merge_mib_per_second = MERGE_MIB_MAX + 1), ConfigError::Merging);
        assert_eq!(refused(|c| c.merge_after_ms = u64::MAX), ConfigError::Merging);
        assert_eq!(Config { merge_mib_per_second: 0, ..Config::default() }.check(), Ok(()), "it is off");
        let level = refused(|c| c.feature_level_max = FEATURE_LEVEL.0 + 1);
        assert_eq!(level, ConfigError::FeatureLevel { found: FEATURE_LEVEL.0 + 1 });
        assert!(matches!(refused(|c| c.policy.replicas = 0), ConfigError::Policy(_)));
    }

    #[test]
    fn an_address_that_leads_nowhere_is_told_to_nobody() {
        let open = |listen: &str| Config { listen: listen.into(), insecure: true, ..Config::default() };
        let field = |config: &Config| match config.check() {
            Err(ConfigError::Unspecified { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        for listen in ["0.0.0.0:1", "[::]:1", "[::ffff:0.0.0.0]:1"] {
            assert_eq!(field(&open(listen)), "listen");
            let told = Config { advertise: "meta1:7100".into(), ..open(listen) };
            assert_eq!(told.check(), Ok(()));
            // In a group the address in `peers` is what others are told.
            let member = Config { peers: vec!["1@10.0.0.1:1".into()], ..open(listen) };
            assert_eq!(member.check(), Ok(()));
        }
        assert_eq!(field(&Config { advertise: "0.0.0.0:1".into(), ..open("0.0.0.0:1") }), "advertise");
        assert_eq!(field(&Config { peers: vec!["1@0.0.0.0:1".into()], ..open("0.0.0.0:1") }), "peers");
        assert!(Config { listen: "0.0.0.0:1".into(), ..Config::default() }.check().is_err());
    }
}
